package replication

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/text/encoding/charmap"

	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/internal/pgsession"
)

// Charset is the encoding of a database whose text the streamer converts to
// UTF-8 itself, value by value. If the server did, one byte that stands for no
// character would end the stream at every attempt, even in a column that is not
// read (P-33). The nil Charset leaves text as it is.
type Charset struct {
	name  string
	runes [128]rune // of the bytes from 0x80; utf8.RuneError: no character
}

// invalidByte stands for a byte without a character. It is never part of valid
// UTF-8, so the value is one row's fault.
const invalidByte = 0xff

// singleByte are the encodings with one byte for each character.
var singleByte = map[string]*charmap.Charmap{
	"LATIN1": charmap.ISO8859_1, "LATIN2": charmap.ISO8859_2, "LATIN3": charmap.ISO8859_3, "LATIN4": charmap.ISO8859_4,
	"LATIN5": charmap.ISO8859_9, "LATIN6": charmap.ISO8859_10, "LATIN7": charmap.ISO8859_13, "LATIN8": charmap.ISO8859_14,
	"LATIN9": charmap.ISO8859_15, "LATIN10": charmap.ISO8859_16,
	"ISO_8859_5": charmap.ISO8859_5, "ISO_8859_6": charmap.ISO8859_6, "ISO_8859_7": charmap.ISO8859_7, "ISO_8859_8": charmap.ISO8859_8,
	"WIN1250": charmap.Windows1250, "WIN1251": charmap.Windows1251, "WIN1252": charmap.Windows1252, "WIN1253": charmap.Windows1253,
	"WIN1254": charmap.Windows1254, "WIN1255": charmap.Windows1255, "WIN1256": charmap.Windows1256, "WIN1257": charmap.Windows1257,
	"WIN1258": charmap.Windows1258, "WIN866": charmap.CodePage866, "WIN874": charmap.Windows874,
	"KOI8R": charmap.KOI8R, "KOI8U": charmap.KOI8U,
}

// ofServer are the bytes for which PostgreSQL's tables differ from charmap's.
// What a server has always published stays the same.
var ofServer = map[string]map[byte]rune{
	"KOI8U":   {0xae: '╝', 0xbe: '╬'},
	"WIN1255": {0xca: utf8.RuneError},
}

// NewCharset returns the Charset of a server_encoding. It is nil for UTF8, for
// SQL_ASCII, whose bytes mean nothing to the server, and for encodings with
// several bytes for a character, which the server converts.
func NewCharset(encoding string) *Charset {
	table, ok := singleByte[encoding]
	if !ok {
		return nil
	}
	c := &Charset{name: encoding}
	for i := range c.runes {
		b := byte(0x80 + i)
		c.runes[i] = table.DecodeByte(b)
		if b < 0xa0 && (strings.HasPrefix(encoding, "LATIN") || strings.HasPrefix(encoding, "ISO")) {
			c.runes[i] = rune(b) // control characters, which charmap leaves out
		}
		if different, ok := ofServer[encoding][b]; ok {
			c.runes[i] = different
		}
	}
	return c
}

// String is the encoding's name in PostgreSQL.
func (c *Charset) String() string {
	if c == nil {
		return "UTF8"
	}
	return c.name
}

// AppendUTF8 appends text in UTF-8. The result is not valid UTF-8 if a byte
// stands for no character.
func (c *Charset) AppendUTF8(b, text []byte) []byte {
	for _, char := range text {
		switch {
		case char < utf8.RuneSelf:
			b = append(b, char)
		case c.runes[char-utf8.RuneSelf] == utf8.RuneError:
			b = append(b, invalidByte)
		default:
			b = utf8.AppendRune(b, c.runes[char-utf8.RuneSelf])
		}
	}
	return b
}

// UTF8 returns text in UTF-8, and text itself where nothing has to change.
func (c *Charset) UTF8(text []byte) []byte {
	if c == nil || isASCII(text) {
		return text
	}
	return c.AppendUTF8(make([]byte, 0, len(text)+len(text)/2), text)
}

// Encode returns UTF-8 in the encoding, and false if a character has no byte:
// then the database cannot hold the text.
func (c *Charset) Encode(text string) (string, bool) {
	if c == nil || isASCII([]byte(text)) {
		return text, true
	}
	var b strings.Builder
	for _, char := range text {
		if char < utf8.RuneSelf {
			b.WriteByte(byte(char))
			continue
		}
		at := -1
		for i, have := range c.runes {
			if have == char && char != utf8.RuneError {
				at = i
				break
			}
		}
		if at < 0 {
			return "", false
		}
		b.WriteByte(byte(utf8.RuneSelf + at))
	}
	return b.String(), true
}

func isASCII(text []byte) bool {
	for _, char := range text {
		if char >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// clientEncoding is the client_encoding for reading rows: the server's own
// where it must convert nothing, else UTF-8.
func clientEncoding(encoding string) string {
	if encoding == "SQL_ASCII" || NewCharset(encoding) != nil {
		return encoding
	}
	return "UTF8"
}

// pinEncoding sets the encoding in which rows are read.
func pinEncoding(config *pgconn.Config, encoding string) {
	pgsession.Pin(config, "client_encoding", clientEncoding(encoding))
}

// inEncoding is a name of the configuration in a session whose encoding is the
// server's.
func inEncoding(name, encoding string) (string, error) {
	encoded, ok := NewCharset(encoding).Encode(name)
	if !ok {
		return "", failure.Misconfigure(fmt.Errorf("name %q has characters that a database in %s cannot hold", name, encoding))
	}
	return encoded, nil
}

// beginReading begins a transaction that reads rows in their own encoding.
func (c *Control) beginReading(ctx context.Context, encoding string) (pgx.Tx, error) {
	tx, err := c.conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return nil, err
	}
	if _, err := tx.Exec(ctx, "set local client_encoding = "+quoteLiteral(clientEncoding(encoding))); err != nil {
		return nil, errors.Join(err, tx.Rollback(ctx))
	}
	return tx, nil
}
