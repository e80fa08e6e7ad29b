/* Runs wherever the kernel lets it. */
int main(void)
{
	return 42;
}
