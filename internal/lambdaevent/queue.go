package lambdaevent

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"eventhooks/internal/hook"
)

// Attributes of an SQS message, as Lambda hands them over.
const (
	attrReceives = "ApproximateReceiveCount"
	attrSent     = "SentTimestamp" // Unix milliseconds
	attrGroup    = "MessageGroupId"
)

// Deliver returns a Lambda handler for the function that works the queues. A
// batch of SQS messages goes to deliver, which names the messages that must
// come again; the answer is an events.SQSEventResponse with those. The
// schedule's {"sweep":true} calls sweep. Any other event is an error.
//
// A panic is an error too: all messages of the batch come again, and the
// process goes on.
func Deliver(deliver func(context.Context, []hook.Received) (failed []string), sweep func(context.Context) error) func(context.Context, json.RawMessage) (any, error) {
	return func(ctx context.Context, raw json.RawMessage) (_ any, err error) {
		defer recovered(ctx, &err)
		var ev struct {
			events.SQSEvent
			Sweep bool `json:"sweep"`
		}
		if err := json.Unmarshal(raw, &ev); err != nil {
			return nil, fmt.Errorf("read event: %w", err)
		}
		switch {
		case len(ev.Records) > 0:
			msgs, err := received(ev.SQSEvent)
			if err != nil {
				return nil, err
			}
			resp := events.SQSEventResponse{BatchItemFailures: []events.SQSBatchItemFailure{}}
			for _, id := range deliver(ctx, msgs) {
				resp.BatchItemFailures = append(resp.BatchItemFailures, events.SQSBatchItemFailure{ItemIdentifier: id})
			}
			return resp, nil
		case ev.Sweep:
			return nil, sweep(ctx)
		}
		return nil, errors.New("event is neither SQS messages nor a sweep")
	}
}

// received reads the messages of an SQS event.
func received(ev events.SQSEvent) ([]hook.Received, error) {
	msgs := make([]hook.Received, len(ev.Records))
	for i, m := range ev.Records {
		if m.EventSource != "aws:sqs" || m.MessageId == "" {
			return nil, fmt.Errorf("record %d is not an SQS message (source %q)", i, m.EventSource)
		}
		// A count that cannot be read is 1, the first receive: the queue's own
		// count, which moves a message to the dead letters, is untouched by it.
		receives, err := strconv.Atoi(m.Attributes[attrReceives])
		if err != nil || receives < 1 {
			receives = 1
		}
		var sent time.Time
		if ms, err := strconv.ParseInt(m.Attributes[attrSent], 10, 64); err == nil {
			sent = time.UnixMilli(ms).UTC()
		}
		msgs[i] = hook.Received{
			ID: m.MessageId, Receipt: m.ReceiptHandle, Body: m.Body, Group: m.Attributes[attrGroup],
			Receives: receives, SentAt: sent,
		}
	}
	return msgs, nil
}

// SQSEvent makes the event with which Lambda hands the messages of a queue to
// a function. The queue's ARN names it and its region.
func SQSEvent(msgs []hook.Received, arn string) events.SQSEvent {
	ev := events.SQSEvent{Records: make([]events.SQSMessage, len(msgs))}
	for i, m := range msgs {
		sum := md5.Sum([]byte(m.Body))
		attributes := map[string]string{
			attrReceives: strconv.Itoa(m.Receives),
			attrSent:     strconv.FormatInt(m.SentAt.UnixMilli(), 10),
		}
		if m.Group != "" {
			attributes[attrGroup] = m.Group
		}
		ev.Records[i] = events.SQSMessage{
			MessageId: m.ID, ReceiptHandle: m.Receipt, Body: m.Body, Md5OfBody: hex.EncodeToString(sum[:]),
			Attributes: attributes, MessageAttributes: map[string]events.SQSMessageAttribute{},
			EventSource: "aws:sqs", EventSourceARN: arn, AWSRegion: region(arn),
		}
	}
	return ev
}

// region returns the fourth part of an ARN, "" when there is none.
func region(arn string) string {
	parts := strings.SplitN(arn, ":", 5)
	if len(parts) < 5 {
		return ""
	}
	return parts[3]
}

// recovered turns a panic into the invocation's error.
func recovered(ctx context.Context, err *error) {
	if p := recover(); p != nil {
		logPanic(ctx, p)
		*err = errors.New("panic; the log has where")
	}
}
