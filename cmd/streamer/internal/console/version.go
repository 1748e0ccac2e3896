package console

import (
	"runtime/debug"
	"strings"
)

// version is set by the linker in a release, which may be built without the
// repository: -X github.com/outboxstream/streamer/cmd/streamer/internal/console.version=0.1.0.
var version string

// revisionLength is how much of a commit's hash is shown: as much as Go puts
// into a pseudo-version.
const revisionLength = 12

// Version returns the version of a release, or what the build recorded.
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = &debug.BuildInfo{}
	}
	return versionOf(version, info)
}

func versionOf(released string, info *debug.BuildInfo) string {
	text := released
	if text == "" && info.Main.Version != "(devel)" {
		text = strings.TrimPrefix(info.Main.Version, "v")
	}
	if text == "" {
		text = "development"
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			if revision := s.Value[:min(revisionLength, len(s.Value))]; !strings.Contains(text, revision) {
				text += " (" + revision + ")"
			}
		}
	}
	return text
}
