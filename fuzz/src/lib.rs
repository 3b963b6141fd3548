//! What the fuzz targets share: places to work in, inputs with digests that are right, and judges of what comes out.
//!
//! Whatever a judge says is computed from the contract, not by the code that is judged.

pub mod document;
pub mod place;
pub mod recipe;
pub mod shown;
