const char *plain_file(void)
{
	return __FILE__;
}
