//! The one integration binary: each further one would link candle again.

mod architecture;
