package verify

import (
	"mime"
	"strings"
)

// isJSON tells media types whose content is JSON.
func isJSON(contentType string) bool {
	parsed, _, err := mime.ParseMediaType(contentType)
	return err == nil && (strings.HasSuffix(parsed, "/json") || strings.HasSuffix(parsed, "+json"))
}
