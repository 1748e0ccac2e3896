package manual

import (
	"bytes"
	"cmp"
	_ "embed" // what the model of the command line does not say
	"io"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/outboxstream/streamer/cmd/streamer/internal/console"
)

// ending are the sections on files, environment and exit codes.
//
//go:embed ending.1
var ending string

// Page is streamer man: it prints the manual page.
type Page struct{}

// Help is shown by streamer man --help.
func (Page) Help() string {
	return `Prints the manual page, streamer(1). The packages install it.

Example:
  streamer man | man -l -`
}

// Run is the command.
func (Page) Run(line *kong.Context, std console.Streams) error {
	return write(std.Out, line.Model.Node)
}

// write prints the page in the macros of man(7).
func write(to io.Writer, app *kong.Node) error {
	p := page{}
	p.line(".TH STREAMER 1")
	p.line(".SH NAME")
	p.line(`streamer \- publish a PostgreSQL outbox table to Kafka as CloudEvents`)
	p.line(".SH SYNOPSIS")
	p.line(`.B streamer`)
	p.line(`.I command`)
	p.line(`.RI [ flags ]`)
	p.line(".SH DESCRIPTION")
	p.text(app.Help)
	p.line(".SH FLAGS OF EVERY COMMAND")
	p.flags(app.Flags)
	p.line(".SH COMMANDS")
	for _, command := range app.Leaves(true) {
		p.command(command)
	}
	p.WriteString(ending)
	_, err := p.WriteTo(to)
	return err
}

type page struct{ bytes.Buffer }

func (p *page) line(text string) { p.WriteString(text + "\n") }

// command writes what streamer COMMAND --help prints, apart from the summary
// that the text begins with in other words.
func (p *page) command(node *kong.Node) {
	p.line(".SS " + escape(node.Summary()))
	p.text(cmp.Or(node.Detail, node.Help))
	for _, argument := range node.Positional {
		p.item(argument.Summary(), argument.Help)
	}
	p.flags(node.Flags)
}

func (p *page) flags(flags []*kong.Flag) {
	for _, f := range flags {
		if !f.Hidden {
			p.item(f.String(), kong.DefaultHelpValueFormatter(f.Value))
		}
	}
}

func (p *page) item(name, meaning string) {
	p.line(".TP")
	p.line(`\fB` + escape(name) + `\fR`)
	p.line(escape(meaning))
}

// text writes paragraphs. A line that begins with a space is an example or an
// item of a list: it stays as it is.
func (p *page) text(text string) {
	literal, paragraph := false, true
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		if indented := strings.HasPrefix(line, " "); indented != literal {
			literal = indented
			p.line(map[bool]string{true: ".PP\n.RS 4\n.nf", false: ".fi\n.RE"}[literal])
		}
		if line == "" {
			paragraph = true
			continue
		}
		if paragraph && !literal {
			p.line(".PP")
		}
		paragraph = false
		p.line(escape(strings.TrimPrefix(line, "  ")))
	}
	if literal {
		p.line(".fi\n.RE")
	}
}

var special = strings.NewReplacer(`\`, `\e`, "-", `\-`, "'", `\(aq`, "`", `\(ga`, "^", `\(ha`, "~", `\(ti`)

// escape keeps roff from reading text as a request, and hyphens and quotes as
// they are typed.
func escape(text string) string {
	text = special.Replace(text)
	if strings.HasPrefix(text, ".") {
		return `\&` + text
	}
	return text
}
