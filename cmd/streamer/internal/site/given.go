package site

import (
	"fmt"
	"strings"

	"github.com/outboxstream/streamer/internal/failure"
)

// Given is what the operator gives to the process, for commands that read no
// configuration file.
type Given struct {
	File    string   // the configuration file; empty: none is named
	Environ []string // as os.Environ returns it
	Set     []string // KEY=VALUE, from --set
}

// Flags returns the values of --set by their keys.
func (g Given) Flags() (map[string]string, error) {
	flags := map[string]string{}
	for _, set := range g.Set {
		key, value, ok := strings.Cut(set, "=")
		if !ok {
			return nil, failure.Misconfigure(fmt.Errorf("--set %s: write KEY=VALUE", key))
		}
		flags[key] = value
	}
	return flags, nil
}
