package hook_test

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"eventhooks/internal/hook"
)

func TestMessage_Check(t *testing.T) {
	t.Run("exactly the characters that SQS names are allowed", func(t *testing.T) {
		for r := rune(0); r <= utf8.MaxRune; r++ {
			if !utf8.ValidRune(r) {
				continue // half of a pair: nothing in UTF-8
			}
			// https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html
			want := r == 0x9 || r == 0xA || r == 0xD || 0x20 <= r && r <= 0xD7FF || 0xE000 <= r && r <= 0xFFFD || r >= 0x10000
			if err := (hook.Message{Body: "a" + string(r) + "b"}).Check(); (err == nil) != want {
				t.Fatalf("Check() of a body with %U = %v; want allowed = %t", r, err, want)
			}
		}
	})

	at := func(m hook.Message) func(*testing.T) {
		return func(t *testing.T) {
			if err := m.Check(); err == nil {
				t.Error("Check() = nil; want an error")
			}
		}
	}
	t.Run("no body", at(hook.Message{}))
	t.Run("bytes that are not UTF-8", at(hook.Message{Body: "a\xffb"}))
	t.Run("half of a surrogate pair", at(hook.Message{Body: "a\xed\xa0\x80b"}))
	t.Run("a byte too many", at(hook.Message{Body: strings.Repeat("x", 1<<20+1)}))
	t.Run("a delay over 15 minutes", at(hook.Message{Body: "x", Delay: 15*time.Minute + 1}))
	t.Run("a delay below zero", at(hook.Message{Body: "x", Delay: -1}))
	t.Run("a group that is too long", at(hook.Message{Body: "x", Group: strings.Repeat("g", 129)}))
	t.Run("a group with a space", at(hook.Message{Body: "x", Group: "a b"}))
	t.Run("a group beyond ASCII", at(hook.Message{Body: "x", Group: "ä"}))

	t.Run("the greatest message is allowed", func(t *testing.T) {
		m := hook.Message{Body: strings.Repeat("x", 1<<20), Group: strings.Repeat("~", 128), Delay: 15 * time.Minute}
		if err := m.Check(); err != nil {
			t.Errorf("Check() = %v; want nil", err)
		}
	})
	t.Run("the error does not quote the body", func(t *testing.T) {
		err := hook.Message{Body: "secret\x00secret"}.Check()
		if err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("Check() = %v; want an error without the body", err)
		}
	})
}

func BenchmarkMessage_Check(b *testing.B) {
	m := hook.Message{Body: strings.Repeat(`{"key":"value"},`, 64<<10/16)}
	b.SetBytes(int64(len(m.Body)))
	for b.Loop() {
		if err := m.Check(); err != nil {
			b.Fatal(err)
		}
	}
}
