package e2e

import (
	"context"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// procedure follows sections of a page in docs/how-to as an operator does. Its
// commands are the page's own. A command or statement of a section that the test
// has not followed fails the test.
type procedure struct {
	*rig
	page     string
	replace  []string // what the page calls things, and what they are called here
	sections []*section
}

type section struct {
	heading string
	left    []block
}

// follow opens a page. replacements are pairs: the page's word, and the test's.
func (r *rig) follow(page string, replacements ...string) *procedure {
	r.t.Helper()
	require.NoError(r.t, os.MkdirAll(filepath.Join(r.folder, "bin"), 0o755))
	require.NoError(r.t, os.Symlink(binary, filepath.Join(r.folder, "bin", "streamer")))
	p := &procedure{rig: r, page: filepath.Join("docs/how-to", page), replace: replacements}
	r.t.Cleanup(func() {
		if !r.t.Failed() {
			assert.Empty(r.t, p.unfollowed(), "steps of %s that the test has left out", p.page)
		}
	})
	return p
}

// callSlotStreamer names the slot as the pages do. The server must be the test's
// own.
func (r *rig) callSlotStreamer() {
	r.t.Helper()
	r.exec("select pg_drop_replication_slot($1)", r.slot)
	r.slot = "streamer"
	r.exec("select pg_create_logical_replication_slot($1, 'pgoutput')", r.slot)
}

// section begins the section of a heading.
func (p *procedure) section(heading string) *procedure {
	p.t.Helper()
	text, err := os.ReadFile(filepath.Join("..", p.page))
	require.NoError(p.t, err)
	_, after, found := strings.Cut(string(text), "\n"+heading+"\n")
	require.True(p.t, found, "%s has no heading %q", p.page, heading)
	level, _, _ := strings.Cut(heading, " ")
	body, _, _ := strings.Cut(after, "\n"+level+" ")
	p.sections = append(p.sections, &section{heading, blocksIn(body)})
	return p
}

// take returns the next block of a language in the section.
func (p *procedure) take(language, holds string) string {
	p.t.Helper()
	s := p.sections[len(p.sections)-1]
	for i, b := range s.left {
		if b.language == language {
			require.Contains(p.t, b.text, holds, "%s, %s: the next %s block", p.page, s.heading, language)
			s.left = append(s.left[:i:i], s.left[i+1:]...)
			return strings.NewReplacer(p.replace...).Replace(b.text)
		}
	}
	require.Fail(p.t, "no block left", "%s, %s: %s with %q", p.page, s.heading, language, holds)
	return ""
}

// sql executes the section's next SQL block, which must hold a text.
func (p *procedure) sql(holds string) {
	p.t.Helper()
	for statement := range strings.SplitSeq(p.take("sql", holds), ";\n") {
		if statement = strings.TrimSpace(statement); statement != "" {
			p.exec(statement, pgx.QueryExecModeSimpleProtocol)
		}
	}
}

// sh executes the section's next shell block, which must hold a text, and returns its
// output and exit code.
func (p *procedure) sh(holds string) (output string, code int) {
	p.t.Helper()
	return p.shell(p.take("sh", holds))
}

// does is sh for a block that must succeed.
func (p *procedure) does(holds string) string {
	p.t.Helper()
	output, code := p.sh(holds)
	require.Zero(p.t, code, output)
	return output
}

// shell executes a script with the rig's configuration in the environment.
func (p *procedure) shell(script string) (output string, code int) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), 2*patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", "set -euo pipefail\n"+script)
	cmd.Dir = p.folder
	cmd.Env = append(p.environment(), "PATH="+filepath.Join(p.folder, "bin")+":"+os.Getenv("PATH")+":"+p.pg.BinDir())
	text, _ := cmd.CombinedOutput() // the exit code says how it ended
	p.t.Logf("$ %s\n%s", strings.TrimSpace(script), text)
	return string(text), cmd.ProcessState.ExitCode()
}

// environment is the rig's configuration as variables, which the options of a
// page's command override.
func (r *rig) environment() (variables []string) {
	for _, argument := range r.arguments() {
		if key, value, is := strings.Cut(argument, "="); is {
			name := strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
			variables = append(variables, "STREAMER_"+name+"="+value)
		}
	}
	return variables
}

// writing commits numbered rows as role app, from a number on, until the page
// keeps that role out. The returned function returns how many rows there are then.
func (r *rig) writing(first int) (kept func() int) {
	r.t.Helper()
	r.exec("do $$ begin create role app superuser; exception when duplicate_object then null; end $$")
	r.exec("alter role app login")
	conn, err := pgx.Connect(r.t.Context(), dsnOf(r.t, r.dsn, func(u *url.URL) { u.User = url.User("app") }))
	require.NoError(r.t, err)
	done := make(chan struct{})
	pace := time.NewTicker(2 * time.Millisecond)
	go func() {
		defer close(done)
		defer pace.Stop()
		defer conn.Close(context.WithoutCancel(r.t.Context()))
		for n := first; err == nil; n++ {
			<-pace.C
			_, err = conn.Exec(r.t.Context(), "insert into outbox (aggregatetype, aggregateid, type, payload) "+
				"values ('order', 'o' || $1 % 7, 't', jsonb_build_object('n', $1::int))", n)
		}
	}()
	return func() int {
		r.t.Helper()
		<-done
		return r.count()
	}
}

// unfollowed returns the commands and statements of the sections that the test has
// begun but not followed to their end.
func (p *procedure) unfollowed() (left []string) {
	for _, s := range p.sections {
		for _, b := range s.left {
			if b.language == "sh" || b.language == "sql" {
				left = append(left, s.heading+": "+b.text)
			}
		}
	}
	return left
}

// A step that a test leaves out does not go unnoticed.
func TestProcedureNoticesWhatIsLeft(t *testing.T) {
	t.Parallel()
	p := &procedure{rig: &rig{t: t}, page: "docs/how-to/upgrade-postgresql.md", replace: []string{"ROLE app", "ROLE shop"}}
	p.section("## Drain")
	require.Len(t, p.unfollowed(), 3)
	assert.Contains(t, p.take("sql", "NOLOGIN"), "ALTER ROLE shop NOLOGIN;\n")
	assert.Contains(t, p.take("sh", "--until"), "streamer run")
	assert.Equal(t, []string{"## Drain: streamer verify\n"}, p.unfollowed())
}
