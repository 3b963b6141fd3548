//! Shared parts of the fuzz targets: folders, inputs with right digests, and checks of results.
//!
//! The checks are computed from the contract, not by the code under test.

pub mod document;
pub mod place;
pub mod recipe;
pub mod shown;
