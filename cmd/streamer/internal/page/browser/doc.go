// Package browser tests the status page of a running streamer in a real browser,
// Debian's chromium, which the tests install where they may. It is a module of
// its own, so that what drives the browser is no dependency of the streamer.
//
//	go test ./...
//	go test -run '^TestPictures$' . -args -pictures ../../../../../docs/img
package browser
