package checkpoint

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"
	"time"

	"github.com/jackc/pglogrepl"

	"github.com/outboxstream/streamer/internal/failure"
)

// Identity says to whom the positions of a record belong. A position means
// nothing in another cluster, database or slot.
type Identity struct {
	SystemID string `json:"system_identifier"`
	Database string `json:"database"`
	Slot     string `json:"slot"`
}

// Key is the name under which a store keeps the record of this identity. It
// leaves out the system identifier on purpose: with a restored or re-created
// cluster the streamer must find the old record and refuse it, not start from
// scratch.
func (i Identity) Key() string { return i.Database + "/" + i.Slot }

// renamed reports whether a key belongs to the same slot in a database of
// another name.
func (i Identity) renamed(key string) bool {
	database, ok := strings.CutSuffix(key, "/"+i.Slot)
	return ok && database != i.Database
}

// former returns the first of these records that belongs to the same slot of
// the same cluster but was stored under another database name, or ErrNone. Slot
// names are unique in a cluster.
func former(stored [][]byte, id Identity, where string) (Record, error) {
	for _, s := range stored {
		r, err := parse(s, where)
		if err == nil && r.SystemID == id.SystemID && r.Slot == id.Slot && r.Database != id.Database {
			return r, nil
		}
	}
	return Record{}, fmt.Errorf("%s: %w", where, ErrNone)
}

// Former finds the record of the same slot under another name of its database,
// or returns ErrNone. A store that holds a single record refuses such a record
// itself.
func Former(ctx context.Context, s Reader, id Identity) (Record, error) {
	if keeps, ok := s.(interface {
		Former(ctx context.Context, id Identity) (Record, error)
	}); ok {
		return keeps.Former(ctx, id)
	}
	return Record{}, ErrNone
}

// Record is a stored checkpoint.
type Record struct {
	Version int `json:"version"`
	Identity
	Timeline int32 `json:"timeline"`
	// Started is when the server's run began from which LSN was read, by the
	// server's own account: a promoted standby goes on with the same WAL.
	Started string `json:"server_started,omitempty"`
	// LSN is where to start: everything that committed below it is published.
	LSN LSN `json:"-"`
	// History is raised when an operator accepts another cluster or timeline.
	History int `json:"history"`
	// Former are the identities of the streams that published the same outbox
	// before: from another cluster, as before a major upgrade of PostgreSQL, or
	// under another name of the database.
	Former []string `json:"former_streams,omitempty"`
	// Routing is a fingerprint of everything that decides about topic and
	// partition.
	Routing string `json:"routing,omitempty"`
	// Tables are the outbox tables, where there are several. They decide which rows
	// of a transaction are counted, and so about the positions above LSN.
	Tables []string `json:"tables,omitempty"`
	// Producer is the producer that published up to here.
	Producer Producer `json:"producer,omitzero"`
	// Topics say from which offset each partition may hold events above LSN, so
	// that the next start can read them back and repeat none.
	Topics map[string]Topic `json:"topics,omitempty"`
	// Last is the last event published below LSN, as far as it is known. A server
	// whose slot begins before it must deliver it again.
	Last *Event `json:"last,omitempty"`
	// Exact reports whether no event is between Last and LSN. It is false before
	// the first event and in records of older versions, where this is not known.
	Exact bool `json:"exact,omitempty"`
	// Disputed reports that what was published did not reappear on the server. An
	// operator who goes on accepts another history.
	Disputed bool `json:"disputed,omitempty"`
	// Publication identifies the table's entry in the publication.
	Publication string `json:"publication,omitempty"`
	// AtLeastOnce is why a start from here may repeat events, empty if it repeats
	// none.
	AtLeastOnce string `json:"at_least_once,omitempty"`
	// Past holds earlier positions of the stream, oldest first; see Remember.
	Past []Moment `json:"past,omitempty"`
	// Replay is the range that is being published again, in the record of a
	// replay.
	Replay *Replay `json:"replay,omitempty"`
	// Snapshot is how far the rows from before the slot have been published. It is
	// nil if they are not to be published.
	Snapshot *Snapshot `json:"snapshot,omitempty"`
	// Predecessor is the program from which the stream was taken over; nil: none.
	Predecessor *Predecessor `json:"predecessor,omitempty"`
	// NextTransaction is roughly the transaction ID that the server had reached at
	// LSN, 0 if unknown. It is for the operator; nothing depends on it.
	NextTransaction int64 `json:"next_transaction,omitempty"`
	// SavedAt is for the operator; nothing depends on it.
	SavedAt time.Time `json:"saved_at"`
}

// Replay is a replay as requested.
type Replay struct {
	ID      string `json:"id"`
	Request string `json:"request"` // in words: the same words mean the same replay
	From    string `json:"from"`    // LSN
	Until   string `json:"until"`   // LSN: a record at or above it belongs to a completed replay
}

// Producer is a Kafka producer ID and its epoch. Generation counts the
// transactional IDs that were used up: an epoch has 16 bits.
type Producer struct {
	Generation int   `json:"generation,omitempty"`
	ID         int64 `json:"id"`
	Epoch      int16 `json:"epoch"`
}

// Event names one event: its sequence attribute, its ID, and its commit time in
// microseconds since the Unix epoch, 0 if unknown.
type Event struct {
	Sequence   string `json:"sequence"`
	ID         string `json:"id"`
	CommitTime int64  `json:"commit_time,omitempty"`
}

// Topic is what a checkpoint records about a topic: its Kafka ID, and an offset
// for each partition.
type Topic struct {
	ID      string  `json:"id,omitempty"`
	Offsets []int64 `json:"offsets"`
	// Mixed reports that events above LSN have been routed in more than one way,
	// so that no partition holds a prefix of what is routed to it now.
	Mixed bool `json:"mixed,omitempty"`
	// Missing reports that the topic did not exist at the last start. It may come
	// back, and then hold events above LSN.
	Missing bool `json:"missing,omitempty"`
}

// Missing names the topics that did not exist at the last start.
func (r Record) Missing() (topics []string) {
	for name, t := range r.Topics {
		if t.Missing {
			topics = append(topics, name)
		}
	}
	return topics
}

// The formats of a record. One that an older version would misunderstand has a
// newer format, which that version refuses.
const (
	recordVersion      = 1
	snapshotVersion    = 2 // the snapshot is not finished: the rest of the table would be left out
	predecessorVersion = 3 // a predecessor may have published rows above LSN: they would be repeated
	newestVersion      = predecessorVersion
)

// version returns the oldest format that says everything about the record.
func (r Record) version() int {
	switch {
	case r.Predecessor.Above(r.LSN):
		return predecessorVersion
	case r.Snapshot.Pending():
		return snapshotVersion
	}
	return recordVersion
}

// Store keeps one record per identity. Save returns only once the record would
// survive a crash. A later Load, by any process, returns it or a later one.
type Store interface {
	Reader
	// Claim makes every later Save by an earlier claimant fail, so that a frozen
	// instance cannot overwrite the record when it wakes. Stores that keep others
	// out by other means do nothing.
	Claim(ctx context.Context, id Identity) error
	// Save replaces the record.
	Save(ctx context.Context, r Record) error
}

// Reader is the part of a Store that changes nothing.
type Reader interface {
	// Load returns the record, or ErrNone if there has never been one.
	Load(ctx context.Context, id Identity) (Record, error)
	// Close releases the store's resources.
	Close() error
}

var (
	// ErrNone means that nothing has been stored yet.
	ErrNone = errors.New("no checkpoint is stored")
	// ErrTorn means that the stored bytes are not what was written.
	ErrTorn = errors.New("stored checkpoint is damaged")
	// ErrForeign means that the record belongs to another cluster, database or
	// slot.
	ErrForeign = errors.New("stored checkpoint belongs to another cluster, database or slot")
	// ErrClaimed means that another instance has claimed the record since.
	ErrClaimed = errors.New("stored checkpoint has been claimed by another instance")
	// ErrFuture means that a newer version of streamer wrote the record.
	ErrFuture = errors.New("stored checkpoint was written by a newer version of streamer")
)

// ForeignError is a refusal that wraps ErrForeign and says what is stored
// instead.
type ForeignError struct {
	Found Record
	err   error
}

func (e *ForeignError) Error() string { return e.err.Error() }
func (e *ForeignError) Unwrap() error { return e.err }

// envelope is the stored form: the record's JSON and its checksum.
type envelope struct {
	Record   json.RawMessage `json:"checkpoint"`
	Checksum string          `json:"crc32"`
}

type recordFields Record

type storedRecord struct {
	recordFields
	LSN string `json:"lsn"`
}

// Encode returns the form in which every store keeps a record: human-readable
// JSON with a checksum.
func Encode(r Record) ([]byte, error) {
	r.Version = r.version()
	body, err := json.Marshal(storedRecord{recordFields(r), r.LSN.String()})
	if err != nil {
		return nil, fmt.Errorf("encode checkpoint: %w", err)
	}
	return json.Marshal(envelope{Record: body, Checksum: checksum(body)})
}

func checksum(body []byte) string {
	return fmt.Sprintf("%08x", crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli)))
}

// Decode reads the output of Encode and makes sure that it is intact and
// belongs to id. where names its origin.
func Decode(stored []byte, id Identity, where string) (Record, error) {
	r, err := parse(stored, where)
	if err != nil {
		return Record{}, err
	}
	if r.Identity != id {
		return Record{}, foreign(r, id, where)
	}
	return r, nil
}

// parse reads the output of Encode, regardless of its identity.
func parse(stored []byte, where string) (Record, error) {
	var e envelope
	if err := json.Unmarshal(stored, &e); err != nil {
		return Record{}, torn(where, "not a checkpoint")
	}
	var version struct {
		Version int `json:"version"`
	}
	_ = json.Unmarshal(e.Record, &version) // the checksum below detects any damage
	if version.Version > newestVersion {
		return Record{}, refuse(
			ErrFuture, where,
			fmt.Sprintf("format %d, but this streamer reads up to %d", version.Version, newestVersion), "run the newer version",
		)
	}
	if e.Checksum != checksum(e.Record) {
		return Record{}, torn(where, "checksum mismatch")
	}
	var s storedRecord
	if err := json.Unmarshal(e.Record, &s); err != nil || s.Version < 1 {
		return Record{}, torn(where, "the fields are not those of a checkpoint")
	}
	r := Record(s.recordFields)
	var err error
	if r.LSN, err = pglogrepl.ParseLSN(s.LSN); err != nil {
		return Record{}, torn(where, "the position is not an LSN")
	}
	if p := r.Predecessor; p != nil {
		if _, err := pglogrepl.ParseLSN(p.Until); err != nil {
			return Record{}, torn(where, "the position of the predecessor is not an LSN")
		}
	}
	return r, nil
}

func refuse(cause error, where, detail, remedy string) error {
	return failure.Refuse(failure.Advise(fmt.Errorf("%w: %s: %s", cause, where, detail), "%s", remedy))
}

func torn(where, detail string) error {
	return refuse(ErrTorn, where, detail, "restore it from a backup, or decide on a position with `streamer checkpoint set`")
}

func foreign(found Record, ours Identity, where string) error {
	return &ForeignError{found, refuse(
		ErrForeign, where,
		fmt.Sprintf(
			"it is for system %s, database %q, slot %q; this is system %s, database %q, slot %q",
			found.SystemID, found.Database, found.Slot, ours.SystemID, ours.Database, ours.Slot,
		),
		"give streamers that share a store different slot names, or a file each; "+
			"if the cluster was upgraded or replaced on purpose, decide with `streamer checkpoint set` (docs/how-to/upgrade-postgresql.md)",
	)}
}
