package verify

import (
	"mime"
	"strings"
)

// isJSON reports whether content of a media type is JSON.
func isJSON(contentType string) bool {
	parsed, _, err := mime.ParseMediaType(contentType)
	return err == nil && (strings.HasSuffix(parsed, "/json") || strings.HasSuffix(parsed, "+json"))
}
