// Package takeover is streamer take-over: it goes on where another publisher of
// the outbox has stopped, and publishes exactly what that one has not.
package takeover
