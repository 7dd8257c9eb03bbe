//! Parts that several screens draw with.

pub mod chart;
pub mod plain;
pub mod raster;
pub mod sparkline;
pub mod ticks;
