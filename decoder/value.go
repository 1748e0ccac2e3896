package decoder

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// value is a column of a row as it arrived.
type value struct {
	bytes   []byte
	typeOID uint32
	null    bool
	binary  bool
}

// Object identifiers of the built-in types that need special treatment, from
// pg_type.dat. They never change.
const (
	oidBool        = 16
	oidBytea       = 17
	oidChar        = 18
	oidName        = 19
	oidInt8        = 20
	oidInt2        = 21
	oidInt4        = 23
	oidText        = 25
	oidJSON        = 114
	oidXML         = 142
	oidBpchar      = 1042
	oidVarchar     = 1043
	oidTimestamp   = 1114
	oidTimestamptz = 1184
	oidNumeric     = 1700
	oidUUID        = 2950
	oidJSONB       = 3802
)

// builtInTypes are these types by their names in pg_type.
var builtInTypes = map[string]uint32{
	"bool": oidBool, "bytea": oidBytea, "char": oidChar, "name": oidName, "int8": oidInt8, "int2": oidInt2, "int4": oidInt4,
	"text": oidText, "json": oidJSON, "bpchar": oidBpchar, "varchar": oidVarchar, "timestamp": oidTimestamp,
	"timestamptz": oidTimestamptz, "uuid": oidUUID, "jsonb": oidJSONB, "xml": oidXML, "numeric": oidNumeric,
}

// isText reports whether the value is text in the database's encoding.
func (v *value) isText() bool {
	if !v.binary {
		return true
	}
	switch v.typeOID {
	case oidText, oidVarchar, oidBpchar, oidName, oidChar, oidJSON, oidJSONB:
		return true
	}
	return false
}

// epoch2000 is PostgreSQL's epoch in microseconds since the Unix epoch.
const epoch2000 = 946_684_800_000_000

func unixMicro(postgres int64) int64 { return postgres + epoch2000 }

// appendText appends the value in the canonical string form of CloudEvents:
//   - numbers in decimal
//   - booleans as true and false
//   - times in RFC 3339
//   - bytes in base64
//   - everything else as PostgreSQL prints it
//
// The result may be a view of the value itself if nothing has to change.
func (v *value) appendText(scratch []byte) (text, grown []byte, err error) {
	start := len(scratch)
	switch v.typeOID {
	case oidBool:
		yes, err := v.bool()
		if err != nil {
			return nil, scratch, err
		}
		scratch = strconv.AppendBool(scratch, yes)
	case oidTimestamp, oidTimestamptz:
		micro, err := v.micro()
		if err != nil {
			return nil, scratch, err
		}
		scratch = AppendTime(scratch, micro)
	case oidBytea:
		var raw []byte
		if raw, scratch, err = v.data(scratch); err != nil {
			return nil, scratch, err
		}
		start = len(scratch)
		scratch = base64.StdEncoding.AppendEncode(scratch, raw)
	default:
		if !v.binary {
			return v.bytes, scratch, nil
		}
		return v.binaryText(scratch)
	}
	return scratch[start:], scratch, nil
}

// binaryText is appendText for the other types in binary format.
func (v *value) binaryText(scratch []byte) (text, grown []byte, err error) {
	start := len(scratch)
	switch v.typeOID {
	case oidText, oidVarchar, oidBpchar, oidName, oidJSON, oidChar:
		return v.bytes, scratch, nil
	case oidJSONB:
		text, err = v.jsonb()
		return text, scratch, err
	case oidInt2, oidInt4, oidInt8:
		number, err := v.integer()
		if err != nil {
			return nil, scratch, err
		}
		scratch = strconv.AppendInt(scratch, number, 10)
	case oidUUID:
		if len(v.bytes) != 16 {
			return nil, scratch, errLength
		}
		scratch = appendUUID(scratch, v.bytes)
	default:
		return nil, scratch, fmt.Errorf("type with OID %d is not known in binary format: set postgres.binary: false", v.typeOID)
	}
	return scratch[start:], scratch, nil
}

var (
	errLength = errors.New("binary value of an unexpected length")
	errNumber = errors.New("integer value that is not a number of 64 bits")
)

func (v *value) bool() (bool, error) {
	if len(v.bytes) != 1 {
		return false, errLength
	}
	if v.binary {
		return v.bytes[0] != 0, nil
	}
	return v.bytes[0] == 't', nil
}

func (v *value) integer() (int64, error) {
	if !v.binary {
		number, err := strconv.ParseInt(string(v.bytes), 10, 64)
		if err != nil {
			return 0, errNumber // strconv's error quotes the value
		}
		return number, nil
	}
	switch len(v.bytes) {
	case 2:
		return int64(int16(binary.BigEndian.Uint16(v.bytes))), nil
	case 4:
		return int64(int32(binary.BigEndian.Uint32(v.bytes))), nil
	case 8:
		return int64(binary.BigEndian.Uint64(v.bytes)), nil
	}
	return 0, errLength
}

// jsonb strips the version byte with which the binary format begins.
func (v *value) jsonb() ([]byte, error) {
	if len(v.bytes) < 1 || v.bytes[0] != 1 {
		return nil, errors.New("jsonb value of an unknown version")
	}
	return v.bytes[1:], nil
}

// data is the unchanged payload. A bytea is returned as the bytes it stands
// for. A value in binary format is returned as PostgreSQL would print it, so
// that the format never shows.
func (v *value) data(scratch []byte) (data, grown []byte, err error) {
	switch {
	case v.typeOID == oidJSONB && v.binary:
		data, err = v.jsonb()
		return data, scratch, err
	case v.typeOID == oidBytea && !v.binary:
		if len(v.bytes) < 2 || v.bytes[0] != '\\' || v.bytes[1] != 'x' {
			return nil, scratch, errors.New("bytea value that is not in hex format")
		}
		start := len(scratch)
		scratch, err = hex.AppendDecode(scratch, v.bytes[2:])
		if err != nil {
			return nil, scratch, errors.New("bytea value that is not in hex format")
		}
		return scratch[start:], scratch, nil
	case v.typeOID == oidBytea || !v.binary:
		return v.bytes, scratch, nil
	case v.typeOID == oidBool:
		data, scratch, err = v.appendText(scratch)
		return data[:min(len(data), 1)], scratch, err
	case v.typeOID == oidTimestamp || v.typeOID == oidTimestamptz:
		return v.printedTime(scratch)
	}
	return v.appendText(scratch)
}

// printedTime appends a time in the form that parseTimestamp reads.
func (v *value) printedTime(scratch []byte) (text, grown []byte, err error) {
	micro, err := v.micro()
	if err != nil {
		return nil, scratch, err
	}
	start := len(scratch)
	scratch = time.UnixMicro(micro).UTC().AppendFormat(scratch, "2006-01-02 15:04:05.999999")
	if v.typeOID == oidTimestamptz {
		scratch = append(scratch, "+00"...)
	}
	return scratch[start:], scratch, nil
}

func (v *value) dataKind() DataKind {
	switch v.typeOID {
	case oidJSON, oidJSONB:
		return JSON
	case oidBytea:
		return Bytes
	case oidXML:
		return XML
	}
	return Text
}

func (v *value) extensionKind() ExtensionKind {
	switch v.typeOID {
	case oidBool:
		return Boolean
	case oidInt2, oidInt4:
		return Integer
	}
	return String
}

// micro is a point in time in microseconds since the Unix epoch. It reads a
// timestamptz or a timestamp (taken as UTC).
func (v *value) micro() (int64, error) {
	switch v.typeOID {
	case oidTimestamp, oidTimestamptz:
		if !v.binary {
			return parseTimestamp(v.bytes)
		}
		if len(v.bytes) != 8 {
			return 0, errLength
		}
		return checkTime(unixMicro(int64(binary.BigEndian.Uint64(v.bytes))))
	}
	return 0, errNoTimestamp
}

var errNoTimestamp = errors.New("time column is neither timestamptz, timestamp, bigint, integer, numeric nor text")

var errTimeText = errors.New("text that is not a time in RFC 3339, such as 2026-11-21T14:30:00Z" + remedy)

var errTimeRange = errors.New("time that RFC 3339 cannot express (infinity, BC or after the year 9999)")

var (
	minTime = time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro()
	maxTime = time.Date(9999, 12, 31, 23, 59, 59, 999_999_000, time.UTC).UnixMicro()
)

func checkTime(micro int64) (int64, error) {
	if micro < minTime || micro > maxTime {
		return 0, errTimeRange
	}
	return micro, nil
}

// parseTimestamp reads PostgreSQL's ISO style with TimeZone UTC:
// 2024-01-02 03:04:05[.678901][+00].
func parseTimestamp(text []byte) (int64, error) {
	const fixed = len("2024-01-02 03:04:05")
	if len(text) < fixed || text[4] != '-' || text[7] != '-' || text[10] != ' ' || text[13] != ':' || text[16] != ':' {
		return 0, errTimeRange
	}
	year, ok1 := digits(text[0:4])
	month, ok2 := digits(text[5:7])
	day, ok3 := digits(text[8:10])
	hour, ok4 := digits(text[11:13])
	minute, ok5 := digits(text[14:16])
	second, ok6 := digits(text[17:19])
	rest := text[fixed:]
	micro, scale := 0, 100_000
	if len(rest) > 0 && rest[0] == '.' {
		for rest = rest[1:]; len(rest) > 0 && rest[0] >= '0' && rest[0] <= '9'; rest = rest[1:] {
			micro += int(rest[0]-'0') * scale
			scale /= 10
		}
	}
	inUTC := len(rest) == 0 || string(rest) == "+00"
	if !ok1 || !ok2 || !ok3 || !ok4 || !ok5 || !ok6 || !inUTC {
		return 0, errTimeRange
	}
	return checkTime(time.Date(year, time.Month(month), day, hour, minute, second, micro*1000, time.UTC).UnixMicro())
}

func digits(text []byte) (int, bool) {
	n := 0
	for _, c := range text {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int(c-'0')
	}
	return n, true
}

// AppendTime appends a time, in microseconds since the Unix epoch, in RFC 3339
// with Z and at most six digits: most consumers drop any further ones.
func AppendTime(b []byte, micro int64) []byte {
	// Package time has a fast path for this layout only. It prints up to nine
	// digits without trailing zeros; microseconds leave six.
	return time.UnixMicro(micro).UTC().AppendFormat(b, time.RFC3339Nano)
}

func appendUUID(b, uuid []byte) []byte {
	for i, part := range [...][]byte{uuid[0:4], uuid[4:6], uuid[6:8], uuid[8:10], uuid[10:16]} {
		if i > 0 {
			b = append(b, '-')
		}
		b = hex.AppendEncode(b, part)
	}
	return b
}
