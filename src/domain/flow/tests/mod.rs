mod authorities;
mod commands;
mod issuance;
mod keys;
mod nomination;
mod scenarios;
mod screening;
