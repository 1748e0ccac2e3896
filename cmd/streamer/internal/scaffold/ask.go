package scaffold

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/outboxstream/streamer/cmd/streamer/internal/console"
	"github.com/outboxstream/streamer/internal/failure"
)

// asker asks questions on a terminal.
type asker struct {
	std     console.Streams
	answers *bufio.Reader
}

// newAsker returns nil where no answer can be given.
func newAsker(std console.Streams) *asker {
	file, isFile := std.In.(*os.File)
	if std.In == nil || isFile && !console.IsTerminal(file) {
		return nil
	}
	return &asker{std: std, answers: bufio.NewReader(std.In)}
}

// text asks for a text. An empty answer is the fallback.
func (a *asker) text(question, fallback string) (string, error) {
	fmt.Fprintf(a.std.Err, "%s [%s]: ", question, fallback)
	answer, err := a.answers.ReadString('\n')
	answer = strings.TrimSpace(answer)
	switch {
	case err != nil && answer == "":
		fmt.Fprintln(a.std.Err)
		return "", failure.Misconfigure(failure.Advise(errors.New("no answer was given"), "answer, or use flags: `streamer init --help`"))
	case answer == "":
		return fallback, nil
	}
	return answer, nil
}

// choice asks for one of several and returns its index.
func (a *asker) choice(question string, options []string) (int, error) {
	for i, option := range options {
		fmt.Fprintf(a.std.Err, "  %d  %s\n", i+1, option)
	}
	for {
		answer, err := a.text(question, "1")
		if err != nil {
			return 0, err
		}
		if n, err := strconv.Atoi(answer); err == nil && n >= 1 && n <= len(options) {
			return n - 1, nil
		}
		fmt.Fprintf(a.std.Err, "Write a number from 1 to %d.\n", len(options))
	}
}
