//! Pure drawing of the application's model.
pub mod widgets;
