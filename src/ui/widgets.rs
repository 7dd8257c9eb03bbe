//! Widgets that several screens share.

pub mod chart;
pub mod form;
pub mod interval;
pub mod plain;
pub mod raster;
pub mod sparkline;
pub mod ticks;
