package local

import (
	"context"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"eventhooks/internal/dynamostore"
	"eventhooks/internal/sqsqueue"
	"eventhooks/internal/stack"
)

// Logical ids of template.yaml, and what local mode puts before them.
const (
	configTable = "ConfigTable"
	stateTable  = "StateTable"
	eventsQueue = "EventsQueue"
	retryQueue  = "RetryQueue"

	namePrefix = "eventhooks-local-"
)

// openAWS makes the tables and queues of template.yaml, where they are missing,
// at the endpoint that the environment names, and uses them.
func (s *System) openAWS(ctx context.Context) error {
	cfg, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		return fmt.Errorf("read the AWS configuration: %w", err)
	}
	template, err := stack.Load()
	if err != nil {
		return err
	}
	db, q := dynamodb.NewFromConfig(cfg), sqs.NewFromConfig(cfg)
	r, err := template.Create(ctx, db, q, namePrefix)
	if err != nil {
		return err
	}
	s.store = remote{dynamostore.New(db, r.Tables[configTable], r.Tables[stateTable])}
	s.events, s.retry = sqsqueue.New(q, r.Queues[eventsQueue]), sqsqueue.New(q, r.Queues[retryQueue])
	return nil
}

// remote is a store whose tables expire by themselves, and whose ids need no
// floor: others write there too.
type remote struct{ *dynamostore.Store }

func (remote) LastEventID(context.Context) (string, error) { return "", nil }
func (remote) Expire(context.Context) error                { return nil }
