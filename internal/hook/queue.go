package hook

import (
	"errors"
	"fmt"
	"time"
	"unicode/utf8"
)

// Message is one message of a queue.
type Message struct {
	Body string // at most MaxMessageBytes of the characters XML 1.0 allows
	// Group is a fair queue's message group: messages of one busy group do not
	// delay those of others. "" means none.
	Group string
	// Delay is how long the message stays invisible, at most MaxDelay. SQS
	// counts whole seconds: a fraction is rounded up, never down.
	Delay time.Duration
}

// Limits of Amazon SQS, which every queue of ours keeps.
const (
	MaxMessageBytes = 1 << 20          // of one message, and of one batch
	MaxBatch        = 10               // messages of one batch
	MaxDelay        = 15 * time.Minute // of Message.Delay
	MaxGroupBytes   = 128              // of Message.Group
)

// Check returns why the message can never be on a queue, nil when it can. The
// rules are those of Amazon SQS; sending it anyway fails, there and everywhere.
// The error quotes nothing of the body.
func (m Message) Check() error {
	switch {
	case m.Body == "":
		return errors.New("message without a body")
	case len(m.Body) > MaxMessageBytes:
		return fmt.Errorf("message of %d bytes, at most %d are allowed", len(m.Body), MaxMessageBytes)
	case m.Delay < 0 || m.Delay > MaxDelay:
		return fmt.Errorf("message with a delay of %s, at most %s are allowed", m.Delay, MaxDelay)
	case len(m.Group) > MaxGroupBytes:
		return fmt.Errorf("message group of %d bytes, at most %d are allowed", len(m.Group), MaxGroupBytes)
	}
	for i := range len(m.Group) {
		if c := m.Group[i]; c <= ' ' || c > '~' {
			return fmt.Errorf("message group with the byte %#x", c)
		}
	}
	for i, r := range m.Body {
		switch {
		case r >= ' ' && r < utf8.RuneError, r == '\t', r == '\n', r == '\r', r > '\uffff':
		case r == utf8.RuneError: // written so, or what range makes of a bad byte
			if _, n := utf8.DecodeRuneInString(m.Body[i:]); n == 1 {
				return fmt.Errorf("message that is not UTF-8 at byte %d", i)
			}
		default:
			return fmt.Errorf("message with the character %U at byte %d", r, i)
		}
	}
	return nil
}

// Received is a message as a consumer gets it.
type Received struct {
	ID       string
	Receipt  string // what deletes it; good for this receipt only
	Body     string
	Group    string
	Receives int       // how often it has been received, this time included
	SentAt   time.Time // UTC
}
