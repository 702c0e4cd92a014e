mod authorities;
mod commands;
mod issuance;
mod keys;
mod nomination;
mod officers;
mod scenarios;
