//! Certificates that clients see.
