//! Files that are whole, broken and foreign; names that are close and that are not.

mod files;
mod lists;
mod names;
mod speed;
