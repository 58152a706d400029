"""`python -m gateway.schema > docs/schema.graphql`"""

from gateway.schema import make_schema

print(make_schema().as_str())
