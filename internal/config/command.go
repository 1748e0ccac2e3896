package config

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"github.com/outboxstream/streamer/internal/failure"
)

// commandReference is the prefix of a value that names the command whose output
// is the real value.
const commandReference = "exec:"

// What a command may take.
const (
	commandTimeout = 10 * time.Second
	commandLinger  = time.Second // for its output to end once it was killed
	commandOutput  = 64 << 10    // bytes of standard output
	commandError   = 1 << 10     // bytes of standard error that are quoted
)

// splitCommand returns the program and its arguments: words between white space,
// or a JSON array of strings where an argument contains white space. There is no
// shell, so nothing is expanded. The error quotes nothing.
func splitCommand(line string) ([]string, error) {
	line = strings.TrimSpace(line)
	words := strings.Fields(line)
	if strings.HasPrefix(line, "[") {
		words = nil
		if json.Unmarshal([]byte(line), &words) != nil {
			return nil, errors.New(`the command after exec: is not a JSON array of strings: write exec:["program", "first argument"]`)
		}
	}
	if len(words) == 0 || words[0] == "" {
		return nil, errors.New("a program is missing after exec:: write its path, and its arguments separated by spaces")
	}
	return words, nil
}

// maskCommand shows the program and hides its arguments, which may be secret.
func maskCommand(line string) string {
	words, err := splitCommand(line)
	switch {
	case err != nil:
		return commandReference + mask
	case len(words) == 1:
		return commandReference + words[0]
	}
	return commandReference + words[0] + " " + mask
}

// runCommand returns what a command prints. The error holds what it printed on
// standard error, and never its standard output or its arguments.
func runCommand(ctx context.Context, line string) ([]byte, error) {
	words, err := splitCommand(line)
	if err != nil {
		return nil, failure.Misconfigure(err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, commandTimeout, fmt.Errorf("still running after %s", commandTimeout))
	defer cancel()
	value, complaint := bounded{limit: commandOutput}, bounded{limit: commandError}
	cmd := exec.CommandContext(ctx, words[0], words[1:]...)
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = &value, &complaint, commandLinger
	isolate(cmd)
	err = cmd.Run()
	if err == nil && value.exceeded {
		err = fmt.Errorf("more than %d bytes of output", commandOutput)
	}
	if err == nil && len(bytes.TrimSpace(value.kept)) == 0 {
		err = errors.New("no output")
	}
	if err == nil {
		return value.kept, nil
	}
	if cmd.Process == nil {
		return nil, failure.Misconfigure(failure.Advise(
			fmt.Errorf("run the command of a secret: %w", err), "write exec: and the path of a program that the streamer may execute"))
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if said := strings.Join(strings.Fields(string(complaint.kept)), " "); said != "" {
		err = fmt.Errorf("%w: %s", err, said)
	}
	return nil, fmt.Errorf("command %s of a secret: %w", words[0], err)
}

// bounded keeps the beginning of what is written to it.
type bounded struct {
	kept     []byte
	limit    int
	exceeded bool
}

// Write accepts everything, so that the command does not fail.
func (b *bounded) Write(p []byte) (int, error) {
	room := b.limit - len(b.kept)
	b.exceeded = b.exceeded || len(p) > room
	b.kept = append(b.kept, p[:min(room, len(p))]...)
	return len(p), nil
}
