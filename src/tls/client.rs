//! Trust towards origins.
