//go:build !mutation

package mutation

// Active reports whether the streamer is broken in this way: never.
func Active(Name) bool { return false }

// PauseBeforeWriting does nothing.
func PauseBeforeWriting() {}
