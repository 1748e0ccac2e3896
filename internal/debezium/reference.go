package debezium

import (
	"fmt"
	"path"
	"regexp"
	"strings"
)

// reference is a value that is kept elsewhere, as ${file:/path:key}.
type reference struct{ provider, path, key string }

var referenceForm = regexp.MustCompile(`\$\{([^{}]+)\}`)

// isReplacement reports whether the option is the replacement of a regular
// expression, where ${name} is a group.
func isReplacement(name string) bool {
	return strings.HasPrefix(name, "transforms.") && (strings.HasSuffix(name, ".replacement") || strings.HasSuffix(name, ".topic.replacement"))
}

// findReference returns the first reference in the value of an option. In a
// replacement, a name without a colon is a group.
func findReference(name, value string) (reference, bool) {
	for _, m := range referenceForm.FindAllStringSubmatch(value, -1) {
		provider, rest, hasColon := strings.Cut(m[1], ":")
		switch {
		case !hasColon && isReplacement(name):
			continue
		case !hasColon:
			return reference{key: m[1]}, true
		}
		r := reference{provider: provider, key: rest}
		if at := strings.LastIndexByte(rest, ':'); at >= 0 {
			r.path, r.key = rest[:at], rest[at+1:]
		}
		return r, true
	}
	return reference{}, false
}

// file returns the file that holds the value and nothing else.
func (r reference) file() (string, bool) {
	isDirectory := strings.Contains(r.provider, "dir") // Strimzi has strimzidir
	return path.Join(r.path, r.key), isDirectory && path.IsAbs(r.path)
}

// variable returns the environment variable that holds the value.
func (r reference) variable() (string, bool) {
	return r.key, r.provider == "" || strings.Contains(r.provider, "env") && r.path == ""
}

// String says where the value is kept.
func (r reference) String() string {
	name, isFile := r.file()
	variable, isVariable := r.variable()
	switch {
	case isFile:
		return "file " + name
	case isVariable:
		return "environment variable " + variable
	case strings.Contains(r.provider, "file"):
		return fmt.Sprintf("%s in file %s", r.key, r.path)
	case r.provider == "secrets":
		return fmt.Sprintf("key %s of Kubernetes secret %s", r.key, r.path)
	case r.path != "":
		return fmt.Sprintf("%s of %s in the config provider %s", r.key, r.path, r.provider)
	}
	return fmt.Sprintf("%s in the config provider %s", r.key, r.provider)
}
