// Command ingest is the Lambda function that takes events in over HTTP and puts
// them on EventsQueue.
package main

import (
	"log/slog"
	"os"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"eventhooks/internal/auth"
	"eventhooks/internal/dynamostore"
	"eventhooks/internal/env"
	"eventhooks/internal/ingest"
	"eventhooks/internal/lambdaevent"
	"eventhooks/internal/sqsqueue"
)

func main() {
	slog.SetDefault(lambdacontext.NewLogger())
	svc, tokens, err := setup(env.New(os.LookupEnv))
	if err != nil {
		slog.Error("cold start failed", "err", err)
		os.Exit(1)
	}
	lambdaevent.Warm(svc.Warm)
	lambda.StartHandlerFunc(lambdaevent.After(lambdaevent.HTTP(svc), tokens.Wait))
}

func setup(e *env.Settings) (*ingest.Service, *auth.Auth, error) {
	store := dynamostore.New(dynamodb.NewFromConfig(e.AWS("DYNAMODB")), e.String("CONFIG_TABLE"), e.String("STATE_TABLE"))
	queue := sqsqueue.New(sqs.NewFromConfig(e.AWS("SQS")), e.String("EVENTS_QUEUE_URL"))
	acceptUnknown := e.OneOf("UNKNOWN_EVENTS", "reject", "accept") == "accept"
	if err := e.Err(); err != nil {
		return nil, nil, err
	}
	tokens := auth.New(auth.Options{Store: store})
	svc, err := ingest.New(ingest.Options{Store: store, Queue: queue, Auth: tokens, AcceptUnknown: acceptUnknown})
	return svc, tokens, err
}
