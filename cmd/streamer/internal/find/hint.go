package find

import (
	"encoding/binary"
	"encoding/hex"
	"strings"
	"time"
)

// timeOf is the time that an ID holds, if it is a UUID of version 7 or a ULID.
// It is when the ID was made, by the application's clock: a hint where to look,
// and no more.
func timeOf(id string) (time.Time, bool) {
	milliseconds, ok := ofUUID(id)
	if !ok {
		milliseconds, ok = ofULID(id)
	}
	at := time.UnixMilli(milliseconds).UTC()
	// What looks like one by chance is nearly always of another century.
	return at, ok && at.Year() >= 2000 && at.Before(time.Now().AddDate(1, 0, 0))
}

func ofUUID(id string) (milliseconds int64, ok bool) {
	const digits, versionDigit = 32, 12
	plain := strings.ReplaceAll(id, "-", "")
	bytes, err := hex.DecodeString(plain)
	if err != nil || len(plain) != digits || plain[versionDigit] != '7' {
		return 0, false
	}
	return int64(binary.BigEndian.Uint64(bytes) >> 16), true
}

func ofULID(id string) (milliseconds int64, ok bool) {
	const length, timeDigits, alphabet = 26, 10, "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
	if len(id) != length || id[0] > '7' {
		return 0, false
	}
	for i, c := range strings.ToUpper(id) {
		digit := strings.IndexRune(alphabet, c)
		if digit < 0 {
			return 0, false
		}
		if i < timeDigits {
			milliseconds = milliseconds<<5 | int64(digit)
		}
	}
	return milliseconds, true
}
