mod docker;
mod hostile;
mod naming;
mod round_trips;
mod skopeo;
mod support;
