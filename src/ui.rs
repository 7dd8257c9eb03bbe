//! Pure drawing of the application's model.
