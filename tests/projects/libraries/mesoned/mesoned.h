int mesoned_answer(void);
