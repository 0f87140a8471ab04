// Command floor is a Lambda function with the clients that the others have, one
// signed call while it starts, and nothing else: what they are measured
// against.
package main

import (
	"context"
	"os"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
)

func main() {
	cfg := aws.Config{
		Region: os.Getenv("AWS_REGION"),
		Credentials: aws.NewCredentialsCache(aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: os.Getenv("AWS_ACCESS_KEY_ID"), SecretAccessKey: os.Getenv("AWS_SECRET_ACCESS_KEY")}, nil
		})),
		BaseEndpoint: aws.String(os.Getenv("AWS_ENDPOINT_URL")),
	}
	db, queue := dynamodb.NewFromConfig(cfg), sqs.NewFromConfig(cfg)
	_, _ = db.GetItem(context.Background(), &dynamodb.GetItemInput{
		TableName: aws.String("floor"), Key: map[string]types.AttributeValue{"kind": &types.AttributeValueMemberS{Value: "epoch"}},
	})
	lambda.Start(func(ctx context.Context) error {
		_, err := queue.SendMessageBatch(ctx, &sqs.SendMessageBatchInput{QueueUrl: aws.String("floor")})
		if err != nil {
			return err
		}
		_, err = db.Query(ctx, &dynamodb.QueryInput{TableName: aws.String("floor")})
		if err != nil {
			return err
		}
		_, err = db.TransactWriteItems(ctx, &dynamodb.TransactWriteItemsInput{})
		return err
	})
}
