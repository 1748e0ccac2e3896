package config

import (
	"net/url"
	"regexp"
	"strings"
)

// The parts of a URI-reference as defined in RFC 3986, appendix A. url.Parse is
// more lenient: it accepts spaces and broken escapes, because of which clients
// in other languages then drop the event.
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

// isURIReference reports whether text is a non-empty URI-reference strictly by
// RFC 3986.
func isURIReference(text string) bool {
	if text == "" || !uriReference.MatchString(text) {
		return false
	}
	// Without a scheme the first segment must not contain a colon, or it would be
	// taken for a scheme.
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

// isAbsoluteURI reports whether text is a URI that begins with a scheme, with
// something after the scheme.
func isAbsoluteURI(text string) bool {
	return isURIReference(text) && uriScheme.MatchString(text) && !strings.HasSuffix(text, ":")
}
