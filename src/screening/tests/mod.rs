//! Files that are whole, broken and foreign; names that are close and that are not.

mod files;
mod lists;
mod memory;
mod names;
mod speed;
