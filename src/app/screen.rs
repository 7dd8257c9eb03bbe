//! The list of screens, and what derives from it: which one is shown, what opens it, and the table of all keys.
//!
//! **To add a screen** write `app/screen/NAME.rs` (state, keys, what they do), `ui/screen/NAME.rs` (`header` and `body`), and
//! one line in the list below. Help, footer, palette and the README's key table follow.

use super::contract::{AnyScreen, Screen};
use super::effect::Effect;
use super::goal::Show;
use super::keymap::Table;
use super::shared::Shared;

/// The list, in the README's order: file and state. The first one is shown at the start.
macro_rules! screens {
    ($then:ident) => {
        $then! {
            home::HomeScreen
            label::LabelScreen
            launch::LaunchScreen
            watch::WatchScreen
            replay::ReplayScreen
        }
    };
}
pub(crate) use screens;

/// Makes of the list its files, [`ActiveScreen`] and [`ROUTES`].
macro_rules! routes {
    ($($file:ident::$State:ident)*) => {
        $(pub mod $file;)*

        /// The screen that is shown, with its state.
        #[derive(Debug, Clone)]
        pub enum ActiveScreen {
            $(
                #[doc = concat!("See `app/screen/", stringify!($file), ".rs`.")]
                $State(Box<$file::$State>),
            )*
        }

        impl ActiveScreen {
            /// What every screen can do.
            #[must_use]
            pub fn any(&self) -> &dyn AnyScreen {
                match self {
                    $(Self::$State(screen) => screen.as_ref(),)*
                }
            }

            /// What every screen can do.
            pub fn any_mut(&mut self) -> &mut dyn AnyScreen {
                match self {
                    $(Self::$State(screen) => screen.as_mut(),)*
                }
            }
        }

        /// The way into every screen.
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

/// The way into a screen.
#[derive(Debug, Clone, Copy)]
pub struct Route {
    /// The screen's name.
    pub name: &'static str,
    /// Whether it shows the open session.
    pub needs_session: bool,
    /// Its sections of the key table.
    pub keys: fn() -> Vec<Table>,
    /// Opens it.
    pub open: fn(&mut Shared, Show) -> (ActiveScreen, Vec<Effect>),
}

/// The way into the screen of this name.
#[must_use]
pub fn route(name: &str) -> Option<&'static Route> {
    ROUTES.iter().find(|route| route.name == name)
}
