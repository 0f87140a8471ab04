package stack

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	dynamotypes "github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/aws/smithy-go"
)

// tableWait is how long Create waits for a table to become active.
const tableWait = 2 * time.Minute

// Create makes the stack's tables and queues where the clients point, named
// prefix and logical id. What is there already is kept, a queue with the
// template's attributes; so calling it again is harmless. What only an account
// has (protection, recovery, encryption, policies) is left out.
func (s *Stack) Create(ctx context.Context, db *dynamodb.Client, q *sqs.Client, prefix string) (Resources, error) {
	r := Resources{Tables: map[string]string{}, Queues: map[string]string{}}
	for _, t := range s.Tables {
		name := prefix + t.ID
		if err := t.create(ctx, db, name); err != nil {
			return r, fmt.Errorf("create table %s: %w", name, err)
		}
		r.Tables[t.ID] = name
	}
	// A queue after the one that takes its dead letters.
	queues := slices.Clone(s.Queues)
	slices.SortStableFunc(queues, func(a, b Queue) int {
		return boolInt(a.DeadLetter != "") - boolInt(b.DeadLetter != "")
	})
	arns := map[string]string{}
	for _, queue := range queues {
		name := prefix + queue.ID
		url, arn, err := queue.create(ctx, q, name, arns[queue.DeadLetter])
		if err != nil {
			return r, fmt.Errorf("create queue %s: %w", name, err)
		}
		r.Queues[queue.ID], arns[queue.ID] = url, arn
	}
	return r, nil
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// Input returns the request that creates the table under a name.
func (t Table) Input(name string) *dynamodb.CreateTableInput {
	in := &dynamodb.CreateTableInput{
		TableName: &name, BillingMode: dynamotypes.BillingModePayPerRequest, KeySchema: schema(t.Hash, t.Sort),
	}
	var defined []string
	define := func(keys ...Key) {
		for _, k := range keys {
			if !slices.Contains(defined, k.Name) {
				defined = append(defined, k.Name)
				in.AttributeDefinitions = append(in.AttributeDefinitions, dynamotypes.AttributeDefinition{
					AttributeName: aws.String(k.Name), AttributeType: dynamotypes.ScalarAttributeType(k.Type),
				})
			}
		}
	}
	define(t.Hash, t.Sort)
	for _, x := range t.Indexes {
		define(x.Hash, x.Sort)
		projection := &dynamotypes.Projection{ProjectionType: dynamotypes.ProjectionType(x.Projection), NonKeyAttributes: x.Include}
		if x.Local {
			in.LocalSecondaryIndexes = append(in.LocalSecondaryIndexes, dynamotypes.LocalSecondaryIndex{
				IndexName: aws.String(x.Name), KeySchema: schema(x.Hash, x.Sort), Projection: projection,
			})
		} else {
			in.GlobalSecondaryIndexes = append(in.GlobalSecondaryIndexes, dynamotypes.GlobalSecondaryIndex{
				IndexName: aws.String(x.Name), KeySchema: schema(x.Hash, x.Sort), Projection: projection,
			})
		}
	}
	return in
}

func schema(hash, sort Key) []dynamotypes.KeySchemaElement {
	return []dynamotypes.KeySchemaElement{
		{AttributeName: aws.String(hash.Name), KeyType: dynamotypes.KeyTypeHash},
		{AttributeName: aws.String(sort.Name), KeyType: dynamotypes.KeyTypeRange},
	}
}

func (t Table) create(ctx context.Context, db *dynamodb.Client, name string) error {
	_, err := db.CreateTable(ctx, t.Input(name))
	if _, there := errors.AsType[*dynamotypes.ResourceInUseException](err); err != nil && !there {
		return err
	}
	active := dynamodb.NewTableExistsWaiter(db, func(o *dynamodb.TableExistsWaiterOptions) {
		o.MinDelay, o.MaxDelay = 100*time.Millisecond, 5*time.Second
	})
	if err := active.Wait(ctx, &dynamodb.DescribeTableInput{TableName: &name}, tableWait); err != nil {
		return err
	}
	if t.TTL == "" {
		return nil
	}
	out, err := db.DescribeTimeToLive(ctx, &dynamodb.DescribeTimeToLiveInput{TableName: &name})
	if err == nil {
		switch out.TimeToLiveDescription.TimeToLiveStatus {
		case dynamotypes.TimeToLiveStatusEnabled, dynamotypes.TimeToLiveStatusEnabling:
			return nil
		}
		_, err = db.UpdateTimeToLive(ctx, &dynamodb.UpdateTimeToLiveInput{
			TableName:               &name,
			TimeToLiveSpecification: &dynamotypes.TimeToLiveSpecification{AttributeName: &t.TTL, Enabled: aws.Bool(true)},
		})
	}
	// Expiry only keeps the table small: every reader compares the time itself.
	// So a server that does not have it will do.
	if e, ok := errors.AsType[smithy.APIError](err); ok && e.ErrorCode() == "UnknownOperationException" {
		return nil
	}
	return err
}

// create makes the queue, or gives one that is there the template's
// attributes.
func (queue Queue) create(ctx context.Context, q *sqs.Client, name, deadLetterARN string) (url, arn string, err error) {
	attributes := map[string]string{
		string(sqstypes.QueueAttributeNameVisibilityTimeout):      strconv.Itoa(int(queue.Visibility / time.Second)),
		string(sqstypes.QueueAttributeNameMessageRetentionPeriod): strconv.Itoa(int(queue.Retention / time.Second)),
		string(sqstypes.QueueAttributeNameMaximumMessageSize):     strconv.Itoa(queue.MaxMessageBytes),
	}
	if deadLetterARN != "" {
		attributes[string(sqstypes.QueueAttributeNameRedrivePolicy)] = fmt.Sprintf(
			`{"deadLetterTargetArn":%q,"maxReceiveCount":"%d"}`, deadLetterARN, queue.MaxReceives)
	}
	created, err := q.CreateQueue(ctx, &sqs.CreateQueueInput{QueueName: &name, Attributes: attributes})
	if _, there := errors.AsType[*sqstypes.QueueNameExists](err); there {
		var found *sqs.GetQueueUrlOutput
		if found, err = q.GetQueueUrl(ctx, &sqs.GetQueueUrlInput{QueueName: &name}); err != nil {
			return "", "", err
		}
		url = *found.QueueUrl
		if _, err := q.SetQueueAttributes(ctx, &sqs.SetQueueAttributesInput{QueueUrl: &url, Attributes: attributes}); err != nil {
			return "", "", err
		}
	} else if err != nil {
		return "", "", err
	} else {
		url = *created.QueueUrl
	}
	const wanted = sqstypes.QueueAttributeNameQueueArn
	got, err := q.GetQueueAttributes(ctx, &sqs.GetQueueAttributesInput{QueueUrl: &url, AttributeNames: []sqstypes.QueueAttributeName{wanted}})
	if err != nil {
		return "", "", err
	}
	return url, got.Attributes[string(wanted)], nil
}
