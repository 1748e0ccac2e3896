package console

import (
	"runtime/debug"
	"strings"
)

// Version returns what the build recorded.
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	text := info.Main.Version
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && !strings.Contains(text, s.Value[:min(12, len(s.Value))]) {
			text += " (" + s.Value[:min(12, len(s.Value))] + ")"
		}
	}
	if text == "" || text == "(devel)" {
		return "development"
	}
	return text
}
