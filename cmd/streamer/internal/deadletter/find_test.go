package deadletter

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/checkpoint"
	"github.com/outboxstream/streamer/cmd/streamer/internal/site"
	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/replication"
	"github.com/outboxstream/streamer/router"
)

// someLetters are letters of two streams. The one at offset 3 is resolved.
func someLetters() *letterBox {
	letter := func(offset int64, stream, id string, commit replication.LSN, class router.PoisonClass) router.Letter {
		return router.Letter{
			Topic: topic, Partition: 2, Offset: offset, StreamID: stream, EventID: id, Class: class,
			Position: replication.Position{Commit: commit, Ordinal: 1},
		}
	}
	box := &letterBox{topic: topic, letters: []router.Letter{
		letter(1, "a", "first", 0x100, router.PoisonSize), letter(2, "a", "twice", 0x200, router.PoisonRow),
		letter(3, "a", "resolved", 0x300, router.PoisonSize), letter(4, "a", "last", 0x400, router.PoisonSize),
		letter(5, "b", "twice", 0x200, router.PoisonSize),
	}}
	box.letters[2].Resolution = &router.Resolution{Verb: router.Dropped, By: "somebody", At: time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)}
	return box
}

// ids are the short names of letters.
func ids(letters []router.Letter) (list []string) {
	for _, l := range letters {
		list = append(list, letterID(l))
	}
	return list
}

func TestFind(t *testing.T) {
	t.Parallel()
	box := someLetters()
	for _, name := range []string{"2:1", topic + ":2:1", "first", box.letters[0].Position.String()} {
		l, err := box.find(name)
		require.NoError(t, err, name)
		assert.Equal(t, box.letters[0], l, name)
	}
	resolved, err := box.find("2:3")
	require.NoError(t, err, "show shows resolved ones, too")
	assert.Equal(t, "resolved", resolved.EventID)
	for name, says := range map[string][]string{
		"twice":                          {"2 dead letters", "2:2", "2:5", "partition and offset"},
		box.letters[1].Position.String(): {"2 dead letters", "2:2", "2:5"},
		"2:9":                            {topic, "no dead letter", `"2:9"`, "list --all"},
		"":                               {"no dead letter"},
		"other:2:1":                      {"no dead letter"},
		"1":                              {"no dead letter"},
		"FIRST":                          {"no dead letter"},
	} {
		_, err := box.find(name)
		requireRefused(t, result{err: err}, says...)
	}
}

func TestOpenLeavesOutWhatIsDecided(t *testing.T) {
	t.Parallel()
	box := someLetters()
	assert.Equal(t, []string{"2:1", "2:2", "2:4", "2:5"}, ids(box.open()))
	assert.Len(t, box.letters, 5, "the box keeps them")
}

func TestChoose(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		choice  choice
		streams []string
		want    []string
	}{
		"all of a stream":             {choice{all: true}, []string{"a"}, []string{"2:1", "2:2", "2:4"}},
		"all of a stream's histories": {choice{all: true}, []string{"b", "a"}, []string{"2:1", "2:2", "2:4", "2:5"}},
		"all of no stream":            {choice{all: true}, nil, nil},
		"all of a class":              {choice{all: true, class: "too_large"}, []string{"a"}, []string{"2:1", "2:4"}},
		"all of an unknown class":     {choice{all: true, class: "large"}, []string{"a"}, nil},
		"in the order of the stream":  {choice{ids: []string{"last", "2:2", "first"}}, nil, []string{"2:1", "2:2", "2:4"}},
		"each once":                   {choice{ids: []string{"last", "2:4", topic + ":2:4"}}, nil, []string{"2:4"}},
		"of any stream by their ids":  {choice{ids: []string{"2:5", "first"}}, []string{"a"}, []string{"2:1", "2:5"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			chosen, err := someLetters().choose(c.choice, c.streams)
			require.NoError(t, err)
			assert.Equal(t, c.want, ids(chosen))
		})
	}
}

func TestChooseRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		ids  []string
		says []string
	}{
		"an unknown one":         {[]string{"first", "2:9"}, []string{`"2:9"`}},
		"an ambiguous one":       {[]string{"twice"}, []string{"2:2", "2:5"}},
		"one that was decided":   {[]string{"2:1", "resolved"}, []string{"2:3", "already dropped", "somebody", "2026-11-21T10:00:00Z"}},
		"one decided and others": {[]string{"resolved", "2:9"}, []string{"already"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			chosen, err := someLetters().choose(choice{ids: c.ids}, []string{"a"})
			assert.Empty(t, chosen)
			requireRefused(t, result{err: err}, c.says...)
		})
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		command resolving
		says    string // nothing if it is valid
	}{
		"ids":              {resolving{ID: []string{"0:1", "0:2"}}, ""},
		"all":              {resolving{All: true}, ""},
		"all of a class":   {resolving{All: true, Class: "too_large"}, ""},
		"none":             {resolving{Yes: true}, "--all"},
		"both":             {resolving{ID: []string{"0:1"}, All: true}, "--all"},
		"class of one":     {resolving{ID: []string{"0:1"}, Class: "too_large"}, "--class"},
		"class of nothing": {resolving{Class: "too_large"}, "--all"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := c.command.Validate()
			if c.says == "" {
				require.NoError(t, err)
				return
			}
			assert.ErrorContains(t, err, c.says)
		})
	}
}

// An operator who accepts another history begins another stream; its letters
// are those of the same slot.
func TestStreamsOfEarlierHistories(t *testing.T) {
	t.Parallel()
	r, stream := newStream(t)
	cfg := r.config()
	server, _, err := identifyStreams(t.Context(), cfg)
	require.NoError(t, err)
	store, err := checkpoint.OpenFile(cfg.Checkpoint.File.Path)
	require.NoError(t, err)
	id := site.IdentityOf(server, cfg)
	require.NoError(t, store.Claim(t.Context(), id))
	require.NoError(t, store.Save(t.Context(), checkpoint.Record{Identity: id, LSN: 100, History: 2}))
	require.NoError(t, store.Close())

	_, streams, err := identifyStreams(t.Context(), cfg)
	require.NoError(t, err)
	require.Len(t, streams, 3)
	assert.Equal(t, stream, streams[0])
	assert.Len(t, slices.Compact(slices.Sorted(slices.Values(streams))), 3)
}

// A checkpoint that cannot be read must not hide the letters of later
// histories.
func TestStreamsWithoutACheckpointStore(t *testing.T) {
	t.Parallel()
	r, _ := newStream(t)
	r.environ = append(r.environ, "STREAMER_CHECKPOINT_FILE_PATH="+t.TempDir()+"/none/checkpoint")
	_, streams, err := identifyStreams(t.Context(), r.config())
	require.Error(t, err)
	assert.Equal(t, failure.Misconfigured, failure.ClassOf(err))
	assert.Empty(t, streams)
	r.environ = append(r.environ, "STREAMER_POSTGRES_DSN=postgres://nobody@127.0.0.1:1/none")
	_, _, err = identifyStreams(t.Context(), r.config())
	require.Error(t, err)
	assert.Contains(t, err.Error(), "127.0.0.1")
}
