// Package page is the status page that a running streamer serves at /: what it
// is doing, how far behind, what becomes of the slot, and what to do about it.
//
// One goroutine samples the metrics and, while somebody watches, renders what
// has changed once a second. All viewers get the same bytes. Nothing here is on
// the path of an event, and nothing here can be changed from outside. Start at
// [Page].
package page
