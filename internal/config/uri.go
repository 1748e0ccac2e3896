package config

import (
	"net/url"
	"regexp"
	"strings"
)

// The parts of a URI-reference as RFC 3986 writes them in appendix A. url.Parse is more lenient: it lets spaces and
// broken escapes pass, on which other languages' clients then drop the event.
const (
	pathCharacter = `(?:[A-Za-z0-9\-._~!$&'()*+,;=:@]|%[0-9A-Fa-f]{2})`
	authority     = `(?:(?:[A-Za-z0-9\-._~!$&'()*+,;=:]|%[0-9A-Fa-f]{2})*@)?` + // user
		`(?:\[[0-9A-Fa-fv:.]+\]|(?:[A-Za-z0-9\-._~!$&'()*+,;=]|%[0-9A-Fa-f]{2})*)(?::[0-9]*)?` // host and port
)

var (
	uriScheme    = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9+.\-]*:`)
	uriReference = regexp.MustCompile(`^(?:[A-Za-z][A-Za-z0-9+.\-]*:)?` +
		`(?://` + authority + `(?:/` + pathCharacter + `*)*|(?:/(?:` + pathCharacter + `+(?:/` + pathCharacter + `*)*)?)|` +
		pathCharacter + `+(?:/` + pathCharacter + `*)*)?` +
		`(?:\?(?:` + pathCharacter + `|[/?])*)?(?:#(?:` + pathCharacter + `|[/?])*)?$`)
)

// isURIReference reports whether text is a non-empty URI-reference by the letter of RFC 3986.
func isURIReference(text string) bool {
	if text == "" || !uriReference.MatchString(text) {
		return false
	}
	// Without a scheme the first segment has no colon, or it would be taken for one.
	segment := text
	if i := strings.IndexAny(text, "/?#"); i >= 0 {
		segment = text[:i]
	}
	if strings.Contains(segment, ":") && !uriScheme.MatchString(segment) {
		return false
	}
	_, err := url.Parse(text)
	return err == nil
}

// isAbsoluteURI reports whether text is a URI that begins with a scheme and has something after it.
func isAbsoluteURI(text string) bool {
	return isURIReference(text) && uriScheme.MatchString(text) && !strings.HasSuffix(text, ":")
}
