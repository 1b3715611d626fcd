-- Ten rows of livetolldata: the course's health check.

select * from livetolldata limit 10;
