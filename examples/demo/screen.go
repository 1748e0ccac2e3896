package main

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// The looks of text on a terminal, as parameters of the escape sequence SGR.
const (
	plain  = ""
	bold   = "1"
	dim    = "2"
	red    = "31"
	green  = "32"
	yellow = "33"
	cyan   = "36"
)

// screen is where the demo is shown. It is safe for concurrent use.
type screen struct {
	mutex    sync.Mutex
	out      io.Writer
	colours  bool
	width    int // of a line, in characters
	began    time.Time
	number   int       // of the step under way
	stepTook time.Time // when the step, or its last finished part, began
	lastLine time.Time
}

const (
	defaultWidth = 120
	silence      = 5 * time.Second // the longest time without a line
)

func newScreen(out io.Writer) *screen {
	s := &screen{out: out, width: defaultWidth, began: time.Now()}
	file, isFile := out.(*os.File)
	if !isFile {
		return s
	}
	size, err := unix.IoctlGetWinsize(int(file.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return s // not a terminal
	}
	if size.Col >= 40 {
		s.width = int(size.Col)
	}
	s.colours = os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	return s
}

// paint gives text a look.
func (s *screen) paint(look, text string) string {
	if !s.colours || look == plain {
		return text
	}
	return "\x1b[" + look + "m" + text + "\x1b[0m"
}

func (s *screen) line(text string) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.lastLine = time.Now()
	fmt.Fprintln(s.out, text)
}

// title is the first line.
func (s *screen) title(text string) {
	s.line("\n" + s.paint(bold, text))
}

// step begins the next step.
func (s *screen) step(title string) {
	s.number++
	s.stepTook = time.Now()
	s.line("\n" + s.paint(bold+";"+cyan, fmt.Sprintf("%d/%d  %s", s.number, steps, title)))
}

// progress announces something that takes time.
func (s *screen) progress(text string) { s.note("%s …", text) }

// note is incidental information.
func (s *screen) note(format string, args ...any) {
	s.line(s.paint(dim, s.cut("     "+fmt.Sprintf(format, args...))))
}

// keepCompany runs something that may be silent for minutes, such as a download
// over a slow line, and says at intervals that it is still going on.
func (s *screen) keepCompany(do func() error) error {
	began := time.Now()
	done := make(chan struct{})
	var company sync.WaitGroup
	defer company.Wait()
	defer close(done)
	company.Go(func() {
		tick := time.NewTicker(silence)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				if s.silent() {
					s.note("… %.0f s", time.Since(began).Seconds())
				}
			case <-done:
				return
			}
		}
	})
	return do()
}

func (s *screen) silent() bool {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return time.Since(s.lastLine) >= silence
}

// quote shows the lines of a text.
func (s *screen) quote(text string) {
	for line := range strings.Lines(text) {
		s.note("  %s", strings.TrimRight(line, "\n"))
	}
}

// event is something that happens while the shop is open.
func (s *screen) event(look, format string, args ...any) {
	at := fmt.Sprintf("%6.1f s  ", time.Since(s.stepTook).Seconds())
	s.line(s.paint(dim, at) + s.paint(look, fmt.Sprintf(format, args...)))
}

// done reports the successful end of a step, or of a part of it, with the time
// it took.
func (s *screen) done(format string, args ...any) {
	took := time.Since(s.stepTook)
	s.stepTook = time.Now()
	s.line("   " + s.paint(green, "✓") + " " + fmt.Sprintf(format, args...) + s.paint(dim, fmt.Sprintf("  (%.1f s)", took.Seconds())))
}

// cut shortens a line to the width of the screen.
func (s *screen) cut(text string) string { return s.cutTo(s.width, text) }

func (s *screen) cutTo(width int, text string) string {
	runes := []rune(text)
	width = max(1, width)
	if len(runes) <= width {
		return text
	}
	return string(runes[:width-1]) + "…"
}

// farewell says what to do next.
func (s *screen) farewell() {
	took := fmt.Sprintf("  %.1f s in all; servers and files are removed.", time.Since(s.began).Seconds())
	s.line("\n" + s.paint(bold+";"+green, "The audit found nothing wrong.") + took)
	s.line("\n" + s.paint(bold, "next:") + " README.md, “Your own database in five minutes”: `make build`,")
	s.line("      `bin/streamer setup --print` to see the SQL it needs, `bin/streamer run` to stream.")
}

// grouped writes a number with a comma between thousands.
func grouped(n int) string {
	digits := strconv.Itoa(n)
	var text strings.Builder
	for i, digit := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			text.WriteByte(',')
		}
		text.WriteRune(digit)
	}
	return text.String()
}
