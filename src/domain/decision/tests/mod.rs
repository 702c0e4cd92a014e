mod gates;
mod policy;
mod rows;
mod scenarios;
mod table;
mod time;
mod widening;
