mod announced;
mod authorities;
mod commands;
mod issuance;
mod keys;
mod nomination;
mod rotations;
mod scenarios;
