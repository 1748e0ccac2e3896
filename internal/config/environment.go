package config

import (
	"regexp"
	"slices"
	"strings"
)

// lookup returns the key that an environment variable sets and its path.
// Underscores separate parts of a path as well as words of a name. The list of
// known keys tells which. If a variable begins like a table, its rest is the
// name of an entry.
func lookup(variable string) (*key, []string) {
	for _, k := range root.settings() {
		path := strings.Split(k.path, ".")
		if k.kind != kindTable {
			if k.environment() == variable {
				return k, path
			}
			continue
		}
		if name, ok := strings.CutPrefix(variable, k.environment()+"_"); ok && name != "" {
			return k, append(path, entryName(k, name))
		}
	}
	return nil, nil
}

// saslExtensions has names such as logicalCluster.
const saslExtensions = "kafka.sasl.extensions"

// caseSensitive are the tables whose names are.
var caseSensitive = []string{saslExtensions, "outbox.headers"}

// entryName returns the name of a table's entry, from the end of the variable
// that sets it.
func entryName(table *key, end string) string {
	switch {
	case slices.Contains(caseSensitive, table.path):
		return end
	case table.path == "kafka.topics.configs":
		return strings.ReplaceAll(strings.ToLower(end), "_", ".")
	default:
		return strings.ToLower(end)
	}
}

// serviceLink matches the variables that Kubernetes adds to every container for
// a service whose name begins with "streamer".
var serviceLink = regexp.MustCompile(`_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)$`)

// serviceURL is the value that Kubernetes gives to the variables whose names
// just end in PORT.
var serviceURL = regexp.MustCompile(`^(tcp|udp|sctp)://`)

// isIgnored reports whether a variable has the streamer's prefix but is not a
// key.
func isIgnored(variable, value string) bool {
	return variable == FileVariable || strings.HasPrefix(variable, environmentPrefix+"TEST_") ||
		serviceLink.MatchString(variable) || strings.HasSuffix(variable, "_PORT") && serviceURL.MatchString(value)
}
