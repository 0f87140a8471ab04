// Package eventid makes the ids of events: UUIDs of version 7 (RFC 9562), whose
// order is the order of their times.
package eventid

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"io"
	"sync"
	"time"
)

// An id is 48 bits of Unix milliseconds and 74 free bits, with version and
// variant in between. Here the free bits are two numbers: the high 12 and the
// low 62.
const (
	highBits = 12
	lowBits  = 62
	lowMax   = 1<<lowBits - 1
	highMax  = 1<<highBits - 1
	timeMax  = 1<<48 - 1
)

// Generator makes ids that rise. It is safe for concurrent use.
type Generator struct {
	now    func() time.Time
	random io.Reader

	mu   sync.Mutex
	ms   uint64 // of the last id
	high uint64
	low  uint64
}

// NewGenerator returns a generator. now nil means time.Now, random nil means
// crypto/rand. A random source that fails leaves ids rising, but guessable.
func NewGenerator(now func() time.Time, random io.Reader) *Generator {
	if now == nil {
		now = time.Now
	}
	if random == nil {
		random = rand.Reader
	}
	return &Generator{now: now, random: random}
}

// Next returns an id greater than every one before and than every Floor, also
// when the clock stands still or steps back: then the time in it is that of
// the last id, and its free bits are counted on in random steps, so that ids
// of one millisecond do not give each other away.
func (g *Generator) Next() string {
	var b [10]byte
	g.mu.Lock()
	_, _ = io.ReadFull(g.random, b[:])
	ms := uint64(max(g.now().UnixMilli(), 0)) & timeMax
	if ms > g.ms {
		g.ms = ms
		g.high = uint64(binary.BigEndian.Uint16(b[8:])) & highMax
		g.low = binary.BigEndian.Uint64(b[:8]) & lowMax
	} else {
		g.low += 1 + uint64(binary.BigEndian.Uint32(b[:4]))
		if g.low > lowMax {
			g.low &= lowMax
			g.high++
		}
		if g.high > highMax {
			g.high = 0
			g.ms++
		}
	}
	id := format(g.ms, g.high, g.low)
	g.mu.Unlock()
	return id
}

// Floor makes later ids greater than id: one that was stored, or made
// elsewhere. What is no UUID of version 7 changes nothing.
func (g *Generator) Floor(id string) {
	ms, high, low, ok := parse(id)
	if !ok {
		return
	}
	g.mu.Lock()
	if ms > g.ms || ms == g.ms && (high > g.high || high == g.high && low > g.low) {
		g.ms, g.high, g.low = ms, high, low
	}
	g.mu.Unlock()
}

// Derive returns the id that belongs to a time and some parts: the same for the
// same, another for others. Parts are told apart: ("ab", "c") is not
// ("a", "bc").
func Derive(firstSeenMS int64, parts ...string) string {
	sum := digest(parts)
	return format(millis(firstSeenMS), uint64(binary.BigEndian.Uint16(sum[8:]))&highMax,
		binary.BigEndian.Uint64(sum[:8])&lowMax)
}

// MaxNth is the greatest n of DeriveNth.
const MaxNth = highMax

// DeriveNth is Derive for the nth of several that belong together, 0 to
// MaxNth: their ids rise with n.
func DeriveNth(firstSeenMS int64, n int, parts ...string) string {
	sum := digest(parts)
	return format(millis(firstSeenMS), uint64(n)&highMax, binary.BigEndian.Uint64(sum[:8])&lowMax)
}

func millis(ms int64) uint64 { return uint64(max(ms, 0)) & timeMax }

func digest(parts []string) [sha256.Size]byte {
	h := sha256.New()
	for _, p := range parts {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(p)))
		h.Write(n[:])
		_, _ = io.WriteString(h, p)
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// Time returns the time in an id of version 7, milliseconds since 1970; false
// when it is none.
func Time(id string) (ms int64, ok bool) {
	t, _, _, ok := parse(id)
	return int64(t), ok
}

// Valid reports whether s is a UUID of any version in its canonical form: 36
// characters, hexadecimal digits in either case. uuid.Parse takes more.
func Valid(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case i == 8 || i == 13 || i == 18 || i == 23:
			if c != '-' {
				return false
			}
		case '0' <= c && c <= '9', 'a' <= c && c <= 'f', 'A' <= c && c <= 'F':
		default:
			return false
		}
	}
	return true
}

func format(ms, high, low uint64) string {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], ms<<16|0x7000|high)
	binary.BigEndian.PutUint64(b[8:], 1<<63|low)
	var s [36]byte
	hex.Encode(s[0:8], b[0:4])
	hex.Encode(s[9:13], b[4:6])
	hex.Encode(s[14:18], b[6:8])
	hex.Encode(s[19:23], b[8:10])
	hex.Encode(s[24:36], b[10:16])
	s[8], s[13], s[18], s[23] = '-', '-', '-', '-'
	return string(s[:])
}

// parse takes apart an id of version 7.
func parse(id string) (ms, high, low uint64, ok bool) {
	if !Valid(id) {
		return 0, 0, 0, false
	}
	var digits [32]byte
	n := 0
	for i := range len(id) {
		if id[i] != '-' {
			digits[n] = id[i]
			n++
		}
	}
	var b [16]byte
	if _, err := hex.Decode(b[:], digits[:]); err != nil {
		return 0, 0, 0, false
	}
	x, y := binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])
	if x>>12&0xf != 7 || y>>62 != 2 {
		return 0, 0, 0, false
	}
	return x >> 16, x & highMax, y & lowMax, true
}
