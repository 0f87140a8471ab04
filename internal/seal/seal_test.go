package seal_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"eventhooks/internal/seal"
)

var (
	one   = seal.ID{1}
	place = seal.Place{Kind: "hook", ID: "h1", Field: "data"}
)

func key(t testing.TB, id seal.ID, fill byte) *seal.Key {
	t.Helper()
	k, err := seal.NewKey(id, bytes.Repeat([]byte{fill}, seal.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestKey_Open(t *testing.T) {
	k := key(t, one, 7)
	const document = `{"secret":"correct horse battery staple"}`
	sealed := k.Seal([]byte(document), place)

	t.Run("what was sealed opens", func(t *testing.T) {
		for _, plain := range []string{"", "x", document, strings.Repeat("long ", 20_000)} {
			s := k.Seal([]byte(plain), place)
			got, err := k.Open(s, place)
			if err != nil || string(got) != plain || got == nil {
				t.Errorf("Open of %d sealed bytes = %d bytes, %v; want them", len(plain), len(got), err)
			}
			if len(s) != len(plain)+seal.Overhead {
				t.Errorf("%d bytes are %d sealed; want %d more", len(plain), len(s), seal.Overhead)
			}
			if id, err := seal.KeyOf(s); id != one || err != nil {
				t.Errorf("KeyOf = %v, %v; want %v", id, err, one)
			}
		}
	})
	t.Run("the same key made again opens it", func(t *testing.T) {
		if got, err := key(t, one, 7).Open(sealed, place); err != nil || string(got) != document {
			t.Errorf("Open = %s, %v; want the document", got, err)
		}
	})
	t.Run("sealing twice never gives the same", func(t *testing.T) {
		if bytes.Equal(sealed, k.Seal([]byte(document), place)) {
			t.Error("two sealed documents are equal: a nonce came twice")
		}
	})
	t.Run("nothing of it shows", func(t *testing.T) {
		for i := range len(document) - 4 {
			if bytes.Contains(sealed, []byte(document[i:i+5])) {
				t.Fatalf("the sealed document contains %q", document[i:i+5])
			}
		}
	})
	t.Run("it opens in its own place only", func(t *testing.T) {
		for _, at := range []seal.Place{
			{Kind: "hook", ID: "h2", Field: "data"}, // put to another hook
			{Kind: "upstream", ID: "h1", Field: "data"},
			{Kind: "hook", ID: "h1", Field: "secret"},
			{Kind: "hookh1", ID: "", Field: "data"}, // the same letters, cut elsewhere
			{Kind: "hook", ID: "h1d", Field: "ata"},
			{},
		} {
			refused(t, k, sealed, at)
		}
	})
	t.Run("no bit of it can be flipped", func(t *testing.T) {
		for i := range len(sealed) * 8 {
			flipped := slices.Clone(sealed)
			flipped[i/8] ^= 1 << (i % 8)
			refused(t, k, flipped, place)
		}
	})
	t.Run("nothing can be cut off or added", func(t *testing.T) {
		for n := range sealed {
			refused(t, k, sealed[:n], place)
			refused(t, k, sealed[n+1:], place)
		}
		refused(t, k, append(slices.Clone(sealed), 0), place)
		refused(t, k, nil, place)
	})
	t.Run("another key does not open it", func(t *testing.T) {
		refused(t, key(t, one, 8), sealed, place)        // other bytes under its name
		refused(t, key(t, seal.ID{2}, 7), sealed, place) // its bytes under another name
		renamed := slices.Clone(sealed)                  // and a document that claims that
		id := seal.ID{2}
		copy(renamed[1:], id[:])
		refused(t, key(t, id, 7), renamed, place)
	})
	t.Run("a later form says so", func(t *testing.T) {
		later := slices.Clone(sealed)
		later[0] = 2
		if _, err := k.Open(later, place); err == nil || !strings.Contains(err.Error(), "form 2") {
			t.Errorf("Open = %v; want that form 2 is not known", err)
		}
	})
}

// refused wants an error that says nothing, and no document.
func refused(t *testing.T, k *seal.Key, sealed []byte, at seal.Place) {
	t.Helper()
	got, err := k.Open(sealed, at)
	if err == nil || got != nil {
		t.Errorf("Open of %x at %+v = %q, %v; want an error", sealed, at, got, err)
	}
	if err != nil && strings.Contains(err.Error(), "horse") {
		t.Errorf("the error tells: %v", err)
	}
}

func TestNewKey(t *testing.T) {
	for _, n := range []int{0, 16, 31, 33} {
		if k, err := seal.NewKey(one, make([]byte, n)); err == nil {
			t.Errorf("a key of %d bytes = %v; want an error", n, k)
		}
	}
}

func TestParseID(t *testing.T) {
	id := seal.ID{0, 1, 0xfe, 15: 0xff}
	if got, err := seal.ParseID(id.String()); got != id || err != nil {
		t.Errorf("ParseID(%s) = %v, %v; want it back", id, got, err)
	}
	for _, s := range []string{"", "current", "00", strings.Repeat("0", 31), strings.Repeat("0", 34), strings.Repeat("g", 32)} {
		if got, err := seal.ParseID(s); err == nil {
			t.Errorf("ParseID(%q) = %v; want an error", s, got)
		}
	}
}

func FuzzKey_Open(f *testing.F) {
	k := key(f, one, 7)
	f.Add(k.Seal([]byte("{}"), place))
	f.Add([]byte{1})
	f.Fuzz(func(t *testing.T, sealed []byte) {
		plain, err := k.Open(sealed, place)
		if err == nil && string(plain) != "{}" {
			t.Errorf("%x opens as %q, which nobody sealed", sealed, plain)
		}
	})
}

func BenchmarkKey_Open(b *testing.B) {
	k := key(b, one, 7)
	sealed := k.Seal(bytes.Repeat([]byte("x"), 600), place)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := k.Open(sealed, place); err != nil {
			b.Fatal(err)
		}
	}
}
