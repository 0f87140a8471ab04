package hook

import "time"

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
)

// Received is a message as a consumer gets it.
type Received struct {
	ID       string
	Receipt  string // what deletes it; good for this receipt only
	Body     string
	Group    string
	Receives int       // how often it has been received, this time included
	SentAt   time.Time // UTC
}
