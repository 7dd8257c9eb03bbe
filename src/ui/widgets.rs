//! Parts that several screens draw with.

pub mod chart;
pub mod raster;
pub mod sparkline;
