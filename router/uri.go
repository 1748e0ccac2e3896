package router

import (
	"bytes"
	"errors"
)

var (
	errURI = errors.New("value is not a URI-reference: it holds a character that must be percent-encoded, " +
		"or a colon or # in the wrong place")
	errScheme = errors.New("value is not an absolute URI such as https://example.com/schema")
)

// checkURI applies RFC 3986's character set, on which some consumers insist.
// Spaces, quotes, angle brackets, braces and anything beyond ASCII must be
// percent-encoded.
func checkURI(value []byte) error {
	if scheme(value) < 0 || bytes.Count(value, []byte("#")) > 1 {
		return errURI
	}
	for i := 0; i < len(value); i++ {
		switch c := value[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case c == '%':
			if i+2 >= len(value) || !isHex(value[i+1]) || !isHex(value[i+2]) {
				return errURI
			}
			i += 2
		default:
			if !uriPunctuation[c] {
				return errURI
			}
		}
	}
	return nil
}

// uriPunctuation is RFC 3986's unreserved, gen-delims and sub-delims.
var uriPunctuation = func() (set [256]bool) {
	for _, c := range []byte("-._~:/?#@!$&'()*+,;=") {
		set[c] = true
	}
	return set
}()

// checkAbsoluteURI also requires a scheme and something after it.
func checkAbsoluteURI(value []byte) error {
	if n := scheme(value); n <= 0 || n == len(value) {
		return errScheme
	}
	return checkURI(value)
}

// scheme returns the length of the scheme with its colon. It is 0 without a
// scheme, and negative if the text before the first colon cannot be a scheme.
func scheme(value []byte) int {
	end := bytes.IndexAny(value, ":/?#")
	if end < 0 || value[end] != ':' {
		return 0
	}
	for i, c := range value[:end] {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z':
		case i > 0 && ('0' <= c && c <= '9' || c == '+' || c == '-' || c == '.'):
		default:
			return -1
		}
	}
	if end == 0 {
		return -1
	}
	return end + 1
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}
