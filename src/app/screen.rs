//! The list of screens, and what derives from it: the active screen, the routes and the table of all keys.
//!
//! **To add a screen** write `app/screen/NAME.rs` (state, keys, what they do), `ui/screen/NAME.rs` (`header` and
//! `body`), and one line in the list below. Help, footer, palette and the README's key table follow.

use super::contract::{AnyScreen, Screen};
use super::effect::Effect;
use super::goal::Show;
use super::keymap::Table;
use super::shared::Shared;

/// The list, in the README's order: file and state. The first one shows at start.
macro_rules! screens {
    ($then:ident) => {
        $then! {
            home::HomeScreen
            label::LabelScreen
            sample::SampleScreen
            pair::PairScreen
            score::ScoreScreen
            launch::LaunchScreen
            watch::WatchScreen
            replay::ReplayScreen
            agreement::AgreementScreen
            evaluate::EvaluateScreen
            rounds::LoopScreen
            rank::RankScreen
        }
    };
}
pub(crate) use screens;

/// Declares the listed modules, [`ActiveScreen`] and [`ROUTES`].
macro_rules! routes {
    ($($file:ident::$State:ident)*) => {
        $(pub mod $file;)*

        /// The active screen with its state.
        #[derive(Debug, Clone)]
        pub enum ActiveScreen {
            $(
                #[doc = concat!("See `app/screen/", stringify!($file), ".rs`.")]
                $State(Box<$file::$State>),
            )*
        }

        impl ActiveScreen {
            /// The screen behind its common interface.
            #[must_use]
            pub fn any(&self) -> &dyn AnyScreen {
                match self {
                    $(Self::$State(screen) => screen.as_ref(),)*
                }
            }

            /// The screen behind its common interface, to change it.
            pub fn any_mut(&mut self) -> &mut dyn AnyScreen {
                match self {
                    $(Self::$State(screen) => screen.as_mut(),)*
                }
            }
        }

        /// The routes of all screens.
        pub const ROUTES: &[Route] = &[$(
            Route {
                name: $file::$State::NAME,
                needs_session: $file::$State::NEEDS_SESSION,
                keys: || $file::$State::KEYS.iter().map(super::keymap::Section::table).collect(),
                open: |shared, show| {
                    let (screen, effects) = $file::$State::open(shared, show);
                    (ActiveScreen::$State(Box::new(screen)), effects)
                },
            },
        )*];
    };
}
screens!(routes);

/// How to open a screen.
#[derive(Debug, Clone, Copy)]
pub struct Route {
    /// The screen's name.
    pub name: &'static str,
    /// Whether it needs an open session.
    pub needs_session: bool,
    /// Its key tables.
    pub keys: fn() -> Vec<Table>,
    /// Opens it.
    pub open: fn(&mut Shared, Show) -> (ActiveScreen, Vec<Effect>),
}

/// The route to the screen of this name.
#[must_use]
pub fn route(name: &str) -> Option<&'static Route> {
    ROUTES.iter().find(|route| route.name == name)
}
